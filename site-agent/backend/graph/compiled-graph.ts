// What a computation becomes where the backend runs graphs, and what makes it: TensorFlow, or a rehearsal of it.

import type { tf } from "../tensors.ts";

/** Of the numbers that products multiply; their sums, and everything else, are float32. */
export const PRODUCT_FORMATS = ["float32", "bfloat16"] as const;
export type ProductFormat = (typeof PRODUCT_FORMATS)[number];

export type CompiledGraph = {
  /** It has given what eager execution gives, often enough. */
  readonly isTrusted: boolean;
  /** How far one more call of it was from eager execution; null where it was no further than it may be. */
  compare(expected: tf.NamedTensorMap, found: tf.NamedTensorMap): string | null;
  run(inputs: tf.NamedTensorMap): tf.NamedTensorMap;
  /** The same, as `begin` and `finish` compute it. */
  inHalves(inputs: tf.NamedTensorMap): tf.NamedTensorMap;
  /** The outputs that depend on no later input, and what the other half needs of this one; both belong to the caller. */
  begin(inputs: tf.NamedTensorMap): { outputs: tf.NamedTensorMap; tensors: tf.Tensor[] };
  /** @param tensors that `begin` gave */
  finish(tensors: readonly tf.Tensor[], inputs: tf.NamedTensorMap): tf.NamedTensorMap;
  close(): void;
};

export type GraphCompiler = {
  /**
   * Carries out the computation as it is, and takes down its graph.
   * @param inputs every tensor that the computation reads and did not make itself
   * @param later  names of those that the second half alone has
   * @param compute gives tensors that a scope around this call owns
   * @throws RecordingError where it reads another tensor, or reads numbers back on the way
   */
  record<Outputs extends tf.NamedTensorMap>(
    inputs: tf.NamedTensorMap,
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
