// The parts of tfjs-node's backend object by which a computation is recorded and a recorded one is run.

import { tf } from "../tensors.ts";
import { DATA_TYPES } from "./graph-writer.ts";

/** Of tensors that models compute with. */
type NumberType = "float32" | "int32" | "bool";

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
  /** @param inputs @param outputs names with a comma between any two */
  runSavedModel(session: number, ids: readonly number[], inputs: string, outputs: string): NativeOutput[];
};

export type NativeBackend = {
  readonly isUsingGpuDevice: boolean;
  binding: NativeBinding;
  /** Uploads what still lies in JavaScript. */
  getInputTensorIds(tensors: readonly tf.Tensor[]): number[];
  /** Takes over values in JavaScript as a new tensor. */
  move(dataId: object, values: unknown, shape: readonly number[], type: string, references: number): void;
  executeSingleOutput(
    operation: string,
    attributes: readonly NativeAttribute[],
    inputs: readonly tf.Tensor[],
  ): tf.Tensor;
  loadSavedModelMetaGraph(folder: string, tags: string): number;
  createOutputTensor(output: NativeOutput): tf.Tensor;
  deleteSavedModel(session: number): void;
};

/** Null where the running backend is another one. */
export function nativeBackend(): NativeBackend | null {
  if (tf.getBackend() !== "tensorflow") return null;
  return tf.backend() as unknown as NativeBackend; // tfjs-node's, which types none of this.
}

/** Numbers of a tensor are uploaded when something first computes with it. */
export function isStillInJavaScript(backend: NativeBackend, dataId: object): boolean {
  const { tensorMap } = backend as unknown as {
    readonly tensorMap: { get(id: object): { values: unknown } | undefined };
  }; // tfjs-node's own table.
  const values = tensorMap.get(dataId)?.values;
  return values !== null && values !== undefined;
}

/**
 * The tensor in memory of TensorFlow's own. What is made in JavaScript may share the array's memory, and gives it back on
 * the thread that lets go of it last: in a graph that can be one of TensorFlow's, on which the engine must not be touched.
 */
export function ownedByTensorFlow(backend: NativeBackend, tensor: tf.Tensor): tf.Tensor {
  const attributes = [
    { name: "T", type: backend.binding.TF_ATTR_TYPE, value: DATA_TYPES[tensor.dtype as NumberType] },
  ];
  return backend.executeSingleOutput("DeepCopy", attributes, [tensor]);
}
