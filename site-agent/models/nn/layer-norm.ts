// Layer norm over the last axis (Ba et al. 2016), with its gradient written out. In NHWC order it is the layer norm over
// the channels of an image as well.

import { assert } from "@consilium/shared/base/assert.ts";
import { withGradient } from "../../backend/custom-gradient.ts";
import { tf } from "../../backend/tensors.ts";

export type LayerNormWeights = {
  /** Scale and shift, both [C]. */
  readonly gamma: tf.Tensor1D;
  readonly beta: tf.Tensor1D;
};

/**
 * (x - mean) / sqrt(variance + epsilon) * gamma + beta, mean and variance over the last axis.
 * @param x [..., C] float32
 */
export function layerNorm<Rank extends tf.Rank>(
  x: tf.Tensor<Rank>,
  { gamma, beta }: LayerNormWeights,
  epsilon: number,
): tf.Tensor<Rank> {
  const [channels] = gamma.shape;
  assert(x.shape.at(-1) === channels, `a layer norm of ${channels} channels has an input of [${x.shape}]`);
  const value = withGradient(
    // Wider types, as the pair below takes and gives.
    { x: x as tf.Tensor, gamma: gamma as tf.Tensor, beta: beta as tf.Tensor }, // As above.
    {
      forward: (given) => {
        const mean = tf.mean(given.x, -1, true);
        const centred = tf.sub(given.x, mean);
        const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), epsilon));
        const y = tf.add(tf.mul(tf.mul(centred, inverse), given.gamma), given.beta);
        return { value: y, kept: { x: given.x, gamma: given.gamma, mean, inverse } };
      },
      backward: (dy, kept) =>
        tf.tidy(() => {
          const normalised = tf.mul(tf.sub(kept.x, kept.mean), kept.inverse);
          const scaled = tf.mul(dy, kept.gamma);
          const centred = tf.sub(
            tf.sub(scaled, tf.mean(scaled, -1, true)),
            tf.mul(normalised, tf.mean(tf.mul(scaled, normalised), -1, true)),
          );
          const rows = [dy.size / channels, channels];
          return {
            x: tf.mul(centred, kept.inverse),
            gamma: tf.sum(tf.reshape(tf.mul(dy, normalised), rows), 0),
            beta: tf.sum(tf.reshape(dy, rows), 0),
          };
        }),
    },
  );
  return value as tf.Tensor<Rank>; // The shape of x.
}
