// A model's answer for a stack of slices: probabilities of every class, a batch at a time. What the slices were cut
// from, and what becomes of the answer, is the caller's.

import { assert } from "@consilium/shared/base/assert.ts";
import { type CompileOptions, compileStep } from "../backend/graph/compile-step.ts";
import { runsGraphs } from "../backend/graph/graph-compiler.ts";
import { tf } from "../backend/tensors.ts";

/** Slices, or patches of them, that go through a network at once. */
export const SLICES_AT_ONCE = 8;

/** The part of a model that is needed here. */
export type Predictor = {
  readonly classCount: number;
  /** Images [B, H, W, C] -> logits [B, H, W, K]. */
  predict(images: tf.Tensor4D): tf.Tensor4D;
};

export type CompiledPredictor = Predictor & { dispose(): void };

/** The same, compiled where the backend can; the model stays the caller's. */
export function compiledPredictor(
  model: Predictor & { readonly parameters: { tensors(): ReadonlyMap<string, tf.Tensor> } },
  onWarning?: CompileOptions["onWarning"],
): CompiledPredictor {
  const compute = ({ images }: tf.NamedTensorMap) => ({ logits: model.predict(images as tf.Tensor4D) }); // As given below.
  const reads = (): tf.Tensor[] => [...model.parameters.tensors().values()];
  const step = compileStep(compute, { name: "segmentation", reads, ...(onWarning && { onWarning }) });
  return {
    classCount: model.classCount,
    predict: (images) => step.run({ images }).logits,
    dispose: () => step.dispose(),
  };
}

export type SliceStack = {
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
};

/**
 * @param images [count, height, width, channels], normalised, channels fastest
 * @returns softmax probabilities [count, height, width, K], classes fastest
 */
export async function segmentSlices(
  model: Predictor,
  images: Float32Array,
  { count, height, width, channels }: SliceStack,
  batchSize: number,
): Promise<Float32Array> {
  const sliceLength = height * width * channels;
  assert(images.length === count * sliceLength, "one number for every pixel and channel");
  assert(batchSize >= 1, "a batch holds a slice");
  const probabilities = new Float32Array(count * height * width * model.classCount);
  const shape = (size: number): [number, number, number, number] => [size, height, width, channels];
  for (let start = 0; start < count; start += batchSize) {
    const size = Math.min(batchSize, count - start);
    const part = images.subarray(start * sliceLength, (start + size) * sliceLength);
    // A graph is one for every shape: what the last batch of several lacks is filled up.
    const filledSize = runsGraphs() ? Math.min(batchSize, count) : size;
    const batch = tf.tidy(() => {
      const given = tf.tensor4d(filledUp(part, filledSize * sliceLength), shape(filledSize));
      return tf.slice(tf.softmax(model.predict(given)), 0, size);
    });
    try {
      const values = (await batch.data()) as Float32Array; // Softmax is float32.
      probabilities.set(values, start * height * width * model.classCount);
    } finally {
      batch.dispose();
    }
  }
  return probabilities;
}

/** With zeros. */
function filledUp(numbers: Float32Array, length: number): Float32Array {
  if (numbers.length === length) return numbers;
  const filled = new Float32Array(length);
  filled.set(numbers);
  return filled;
}
