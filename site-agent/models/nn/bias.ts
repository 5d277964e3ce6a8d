// A bias for every channel, with a gradient that sums over everything else in one pass where the backend can.

import { withGradient } from "../../backend/custom-gradient.ts";
import { CHANNEL_BIAS, CHANNEL_SUMS, hasKernel, runSingleKernel } from "../../backend/fused-kernel.ts";
import { expectShape } from "../../backend/shape.ts";
import { tf } from "../../backend/tensors.ts";

/**
 * @param x [B, H, W, C] float32
 * @param bias [C]
 */
export function addBias(x: tf.Tensor4D, bias: tf.Tensor1D): tf.Tensor4D {
  expectShape(x, ["B", "H", "W", bias.shape[0]]);
  const value = withGradient(
    { x: x as tf.Tensor, bias: bias as tf.Tensor }, // Wider types, as the pair below takes and gives.
    {
      forward: (given) => ({
        value: hasKernel(CHANNEL_BIAS) ? runSingleKernel(CHANNEL_BIAS, given) : tf.add(given.x, given.bias),
        kept: {},
      }),
      backward: (dy) => ({ x: tf.clone(dy), bias: () => channelSums(dy) }),
    },
  );
  return value as tf.Tensor4D; // The shape of x.
}

/** x [..., C] -> the sums over everything else, [C] */
export function channelSums(x: tf.Tensor): tf.Tensor {
  if (hasKernel(CHANNEL_SUMS)) return runSingleKernel(CHANNEL_SUMS, { x });
  const channels = x.shape.at(-1) ?? 1;
  return tf.sum(tf.reshape(x, [x.size / channels, channels]), 0);
}
