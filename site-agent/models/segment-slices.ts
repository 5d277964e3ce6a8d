// A model's answer for a stack of slices: probabilities of every class, a batch at a time. What the slices were cut
// from, and what becomes of the answer, is the caller's.

import { assert } from "@consilium/shared/base/assert.ts";
import { tf } from "../backend/tensors.ts";

/** The part of a model that is needed here. */
export type Predictor = {
  readonly classCount: number;
  /** Images [B, H, W, C] -> logits [B, H, W, K]. */
  predict(images: tf.Tensor4D): tf.Tensor4D;
};

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
  for (let start = 0; start < count; start += batchSize) {
    const size = Math.min(batchSize, count - start);
    const part = images.subarray(start * sliceLength, (start + size) * sliceLength);
    const batch = tf.tidy(() =>
      tf.softmax(model.predict(tf.tensor4d(part, [size, height, width, channels]))),
    );
    try {
      const values = (await batch.data()) as Float32Array; // Softmax is float32.
      probabilities.set(values, start * height * width * model.classCount);
    } finally {
      batch.dispose();
    }
  }
  return probabilities;
}
