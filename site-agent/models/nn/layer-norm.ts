// Layer norm over the last axis (Ba et al. 2016), with its gradient written out. In NHWC order it is the layer norm over
// the channels of an image as well.

import { assert } from "@consilium/shared/base/assert.ts";
import { type GradientPair, withGradient } from "../../backend/custom-gradient.ts";
import {
  hasKernel,
  LAYER_NORM,
  LAYER_NORM_CHANNELS_MULTIPLE,
  LAYER_NORM_GRADIENT,
  LAYER_NORM_SCALE_GRADIENT,
  runKernel,
  runSingleKernel,
} from "../../backend/fused-kernel.ts";
import { tf } from "../../backend/tensors.ts";
import { channelSums } from "./bias.ts";

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
  const given: Given = { x, gamma, beta };
  const fused = hasKernel(LAYER_NORM) && channels % LAYER_NORM_CHANNELS_MULTIPLE === 0;
  const value = withGradient(given, fused ? fusedPair(epsilon) : composedPair(epsilon));
  return value as tf.Tensor<Rank>; // The shape of x.
}

type Given = { x: tf.Tensor; gamma: tf.Tensor; beta: tf.Tensor };
type Kept = { x: tf.Tensor; gamma: tf.Tensor; mean: tf.Tensor; inverse: tf.Tensor };

function fusedPair(epsilon: number): GradientPair<Given, Kept> {
  return {
    forward: (given) => {
      const outputs = runKernel(LAYER_NORM, given, { epsilon });
      const [value, mean, inverse] = outputs as [tf.Tensor, tf.Tensor, tf.Tensor]; // As the kernel says.
      return { value, kept: { x: given.x, gamma: given.gamma, mean, inverse } };
    },
    backward: (dy, kept) => {
      const { gamma, ...normed } = kept;
      return {
        x: () => runSingleKernel(LAYER_NORM_GRADIENT, { ...kept, dy }),
        gamma: () => runSingleKernel(LAYER_NORM_SCALE_GRADIENT, { ...normed, dy }),
        beta: () => channelSums(dy),
      };
    },
  };
}

/** The same arithmetic of the framework's operations. */
function composedPair(epsilon: number): GradientPair<Given, Kept> {
  return {
    forward: ({ x, gamma, beta }) => {
      const mean = tf.mean(x, -1, true);
      const centred = tf.sub(x, mean);
      const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), epsilon));
      const value = tf.add(tf.mul(tf.mul(centred, inverse), gamma), beta);
      return { value, kept: { x, gamma, mean, inverse } };
    },
    backward: (dy, { x, gamma, mean, inverse }) => {
      const normalised = () => tf.mul(tf.sub(x, mean), inverse);
      return {
        x: () => {
          const [row, scaled] = [normalised(), tf.mul(dy, gamma)];
          const parallel = tf.mul(row, tf.mean(tf.mul(scaled, row), -1, true));
          return tf.mul(tf.sub(tf.sub(scaled, tf.mean(scaled, -1, true)), parallel), inverse);
        },
        gamma: () => channelSums(tf.mul(dy, normalised())),
        beta: () => channelSums(dy),
      };
    },
  };
}
