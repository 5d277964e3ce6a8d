// The parts of tfjs-node's backend object by which a computation is recorded and a recorded one is run.

import { tf } from "../tensors.ts";

export type NativeAttribute = { readonly name: string; readonly type: number; readonly value: unknown };
type NativeOutput = { readonly id: number; readonly shape: readonly number[]; readonly dtype: number };

/** The addon. Tensors are numbers here. */
export type NativeBinding = {
  readonly TF_ATTR_STRING: number;
  readonly TF_ATTR_INT: number;
  readonly TF_ATTR_FLOAT: number;
  readonly TF_ATTR_BOOL: number;
  readonly TF_ATTR_TYPE: number;
  readonly TF_ATTR_SHAPE: number;
  createTensor(shape: readonly number[], type: number, values: ArrayLike<number>): number;
  executeOp(
    operation: string,
    attributes: readonly NativeAttribute[],
    inputs: readonly number[],
    outputCount: number,
  ): NativeOutput[];
  tensorDataSync(id: number): unknown;
};

export type NativeBackend = {
  binding: NativeBinding;
  /** Uploads what still lies in JavaScript. */
  getInputTensorIds(tensors: readonly tf.Tensor[]): number[];
  /** Takes over values in JavaScript as a new tensor. */
  move(dataId: object, values: unknown, shape: readonly number[], type: string, references: number): void;
  loadSavedModelMetaGraph(folder: string, tags: string): number;
  runSavedModel(
    session: number,
    inputs: readonly tf.Tensor[],
    infos: readonly { readonly name: string }[],
    outputs: readonly string[],
  ): tf.Tensor[];
  deleteSavedModel(session: number): void;
};

/** Null where the running backend is another one. */
export function nativeBackend(): NativeBackend | null {
  if (tf.getBackend() !== "tensorflow") return null;
  return tf.backend() as unknown as NativeBackend; // tfjs-node's, which types none of this.
}
