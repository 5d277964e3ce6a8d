// What a computation becomes where the backend runs graphs, and what makes it: TensorFlow, or a rehearsal of it.

import type { tf } from "../tensors.ts";

/** Of the numbers that products multiply; their sums, and everything else, are float32. */
export const PRODUCT_FORMATS = ["float32", "bfloat16"] as const;
export type ProductFormat = (typeof PRODUCT_FORMATS)[number];

export type GraphInputs = {
  /** By name; their shapes say which graph it is. */
  readonly given: tf.NamedTensorMap;
  /** In their order, of the same shapes in every call. */
  readonly read: readonly tf.Tensor[];
};

export type CompiledGraph = {
  /** It has given what eager execution gives, often enough. */
  readonly isTrusted: boolean;
  /** How far one more call of it was from eager execution; null where it was no further than it may be. */
  compare(expected: tf.NamedTensorMap, found: tf.NamedTensorMap): string | null;
  run(inputs: GraphInputs): tf.NamedTensorMap;
  /** The same, as `begin` and `finish` compute it. */
  inHalves(inputs: GraphInputs): tf.NamedTensorMap;
  /** The outputs that depend on no later input, and what the other half needs of this one; both belong to the caller. */
  begin(inputs: GraphInputs): { outputs: tf.NamedTensorMap; tensors: tf.Tensor[] };
  /** @param tensors that `begin` gave */
  finish(tensors: readonly tf.Tensor[], inputs: GraphInputs): tf.NamedTensorMap;
  close(): void;
};

export type GraphCompiler = {
  /** Parts of one batch that its graphs compute at the same time; 1 where each operation has the whole machine. */
  readonly branches: number;
  /**
   * Carries out the computation as it is, and takes down its graph.
   * @param inputs every tensor that the computation reads and did not make itself
   * @param later  names of those that the second half alone has
   * @param compute gives tensors that a scope around this call owns
   * @throws RecordingError where it reads another tensor, or reads numbers back on the way
   */
  record<Outputs extends tf.NamedTensorMap>(
    inputs: GraphInputs,
    later: readonly string[],
    compute: () => Outputs,
  ): {
    readonly outputs: Outputs;
    /** @throws what the backend says of a graph that it cannot load */
    readonly load: () => CompiledGraph;
  };
};

export class RecordingError extends Error {
  override name = "RecordingError";
  readonly code = "graph.not-recorded";
}
