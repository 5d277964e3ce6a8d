// PyTorch's NCHW images as tensors in the order of this project, NHWC, and back.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { tf } from "../../site-agent/backend/tensors.ts";
import type { GoldenTensor } from "./golden.ts";

/** [B, C, H, W] as [B, H, W, C]. */
export function toImages({ shape, values }: GoldenTensor): tf.Tensor4D {
  const [batch, channels, height, width] = [0, 1, 2, 3].map((axis) =>
    expectDefined(shape[axis], "four axes"),
  );
  const images = tf.tensor(Float32Array.from(values), [batch ?? 0, channels ?? 0, height ?? 0, width ?? 0]);
  return tf.transpose(images, [0, 2, 3, 1]) as tf.Tensor4D; // Four axes stay four.
}

/** [B, H, W, C] as the numbers of [B, C, H, W]. */
export function fromImages(images: tf.Tensor): Float32Array {
  // All images are float32.
  return tf.tidy(() => tf.transpose(images, [0, 3, 1, 2]).dataSync() as Float32Array);
}
