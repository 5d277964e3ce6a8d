// Instance norm and leaky ReLU in one step, with its gradient written out (Ulyanov et al. 2016; the backward pass is
// that of batch norm, Ioffe and Szegedy 2015, with the statistics of one image). Written out it keeps one image tensor
// for the backward pass where the framework's own tape would keep nine.
// B batch, H W spatial, C channels. Layout is NHWC throughout.

import { withGradient } from "../../backend/custom-gradient.ts";
import {
  hasKernel,
  INSTANCE_NORM,
  INSTANCE_NORM_CHANNELS_MIN,
  INSTANCE_NORM_GRADIENT,
  type InstanceNormConstants,
  runKernel,
} from "../../backend/fused-kernel.ts";
import { expectShape } from "../../backend/shape.ts";
import { tf } from "../../backend/tensors.ts";

export type InstanceNormWeights = {
  /** Scale and shift, both [C]. */
  readonly gamma: tf.Tensor1D;
  readonly beta: tf.Tensor1D;
};

type Inputs = { x: tf.Tensor; gamma: tf.Tensor; beta: tf.Tensor };
type Kept = Inputs & { mean: tf.Tensor; inverse: tf.Tensor };

/**
 * leakyRelu((x - mean) / sqrt(variance + epsilon) * gamma + beta), mean and variance of each image and channel.
 * @param x [B, H, W, C] float32
 */
export function instanceNorm(
  x: tf.Tensor4D,
  { gamma, beta }: InstanceNormWeights,
  constants: InstanceNormConstants,
): tf.Tensor4D {
  const [channels] = gamma.shape;
  expectShape(x, ["B", "H", "W", channels]);
  const { forward, backward } =
    channels >= INSTANCE_NORM_CHANNELS_MIN && hasKernel(INSTANCE_NORM) ? fused : composed;
  const value = withGradient<Inputs, Kept>(
    { x, gamma, beta },
    {
      forward: (inputs) => {
        const { y, mean, inverse } = forward(inputs, constants);
        return { value: y, kept: { ...inputs, mean, inverse } };
      },
      backward: (dy, kept) => backward(dy, kept, constants),
    },
  );
  return value as tf.Tensor4D; // The shape of x.
}

type Forward = (
  inputs: Inputs,
  constants: InstanceNormConstants,
) => { y: tf.Tensor; mean: tf.Tensor; inverse: tf.Tensor };
type Backward = (dy: tf.Tensor, kept: Kept, constants: InstanceNormConstants) => Inputs;

const fused: { readonly forward: Forward; readonly backward: Backward } = {
  forward(inputs, constants) {
    const [y, mean, inverse] = runKernel(INSTANCE_NORM, inputs, constants) as [
      tf.Tensor,
      tf.Tensor,
      tf.Tensor,
    ]; // Three.
    return { y, mean, inverse };
  },
  backward(dy, kept, constants) {
    const outputs = runKernel(INSTANCE_NORM_GRADIENT, { ...kept, dy }, constants);
    const [x, gamma, beta] = outputs as [tf.Tensor, tf.Tensor, tf.Tensor]; // Three, as the kernel's name says.
    return { x, gamma, beta };
  },
};

const SPATIAL_AXES = [1, 2];

const composed: { readonly forward: Forward; readonly backward: Backward } = {
  forward({ x, gamma, beta }, { epsilon, negativeSlope }) {
    const mean = tf.mean(x, SPATIAL_AXES, true);
    const centred = tf.sub(x, mean);
    const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(centred), SPATIAL_AXES, true), epsilon));
    const z = tf.add(tf.mul(centred, tf.mul(inverse, gamma)), beta);
    return { y: tf.maximum(z, tf.mul(z, negativeSlope)), mean, inverse };
  },
  backward(dy, { x, gamma, beta, mean, inverse }, { negativeSlope }) {
    const normalised = tf.mul(tf.sub(x, mean), inverse);
    const z = tf.add(tf.mul(normalised, gamma), beta);
    const slope = tf.where(tf.greater(z, 0), tf.onesLike(z), tf.fill(z.shape, negativeSlope));
    const dz = tf.mul(dy, slope);
    const product = tf.mul(dz, normalised);
    const centred = tf.sub(
      tf.sub(dz, tf.mean(dz, SPATIAL_AXES, true)),
      tf.mul(normalised, tf.mean(product, SPATIAL_AXES, true)),
    );
    return {
      x: tf.mul(centred, tf.mul(inverse, gamma)),
      gamma: tf.sum(product, [0, ...SPATIAL_AXES]),
      beta: tf.sum(dz, [0, ...SPATIAL_AXES]),
    };
  },
};
