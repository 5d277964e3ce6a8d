// Drawn slices and masks as tensors for SAM 2: brightness in three equal channels, normalised by the means and deviations
// of ImageNet as all released checkpoints expect.

import { tf } from "../backend/tensors.ts";

const MEAN = [0.485, 0.456, 0.406];
const DEVIATION = [0.229, 0.224, 0.225];

/** @param images brightness from 0 to 1, each [side, side] @returns [B, side, side, 3] */
export function imageTensor(images: readonly Float32Array[], side: number): tf.Tensor4D {
  return tf.tidy(() => {
    const grey = tf.tensor4d(joined(images), [images.length, side, side, 1]);
    return tf.div(tf.sub(grey, MEAN), DEVIATION) as tf.Tensor4D; // The channel is spread over three.
  });
}

/** @param masks 0 and 1, each [side, side] @returns [B, side, side] */
export function maskTensor(masks: readonly Uint8Array[], side: number): tf.Tensor3D {
  return tf.tensor3d(joined(masks), [masks.length, side, side]);
}

/** Equally long arrays one after another. */
export function joined(parts: readonly (Float32Array | Uint8Array)[]): Float32Array {
  const length = parts[0]?.length ?? 0;
  const all = new Float32Array(parts.length * length);
  for (const [index, part] of parts.entries()) all.set(part, index * length);
  return all;
}
