// Kernels of our own, which a backend may or may not have. A layer asks for one and composes the same arithmetic from
// the framework's operations where there is none.

import { tf } from "./tensors.ts";

/** x [B, H, W, C], gamma [C], beta [C] -> y [B, H, W, C], mean [B, C], inverse deviation [B, C]; C >= 4. */
export const INSTANCE_NORM = "ConsiliumInstanceNorm";
/** The forward kernel's inputs and statistics, and dy -> dx [B, H, W, C], dgamma [C], dbeta [C]. */
export const INSTANCE_NORM_GRADIENT = "ConsiliumInstanceNormGradient";
/** x [..., C], bias [C] -> x + bias. */
export const CHANNEL_BIAS = "ConsiliumChannelBias";
/** x [..., C] -> sums over everything but the channels [C]. */
export const CHANNEL_SUMS = "ConsiliumChannelSums";
/** `AdamWInputs` -> value, first, second after one AdamW step. */
export const ADAMW_STEP = "ConsiliumAdamWStep";
/** x of any shape -> x Phi(x), the Gaussian error linear unit. */
export const GELU = "ConsiliumGelu";
/** x and dy of one shape -> dx. */
export const GELU_GRADIENT = "ConsiliumGeluGradient";
/** y of a ReLU and its gradient dy, of one shape -> dx. */
export const RELU_GRADIENT = "ConsiliumReluGradient";
/** x [..., C], gamma [C], beta [C] -> y [..., C], mean [rows], inverse deviation [rows]; C a multiple of 4. */
export const LAYER_NORM = "ConsiliumLayerNorm";
/** x, gamma, the statistics and dy -> dx [..., C]. */
export const LAYER_NORM_GRADIENT = "ConsiliumLayerNormGradient";
/** x, the statistics and dy -> dgamma [C]. */
export const LAYER_NORM_SCALE_GRADIENT = "ConsiliumLayerNormScaleGradient";
/** x [..., C] and a factor -> softmax(factor * x) over the last axis. */
export const SCALED_SOFTMAX = "ConsiliumScaledSoftmax";
/** What it gave, its gradient and the factor -> dx. */
export const SCALED_SOFTMAX_GRADIENT = "ConsiliumScaledSoftmaxGradient";
/** x of any shape -> the sum of its squares []. */
export const SUM_SQUARES = "ConsiliumSumSquares";

/** logits [B, H, W, K], targets [B, H, W] int32, drawn [B, K] -> loss [], gradient of the logits [B, H, W, K]. */
export const DICE_CROSS_ENTROPY = "ConsiliumDiceCrossEntropy";

/** Kernels take channels in vectors of four. */
export const INSTANCE_NORM_CHANNELS_MIN = 4;
export const LAYER_NORM_CHANNELS_MULTIPLE = 4;

export type InstanceNormConstants = {
  /** Added to the variance. */
  readonly epsilon: number;
  /** Of the leaky ReLU behind the norm; 1 leaves the norm alone. */
  readonly negativeSlope: number;
};

export type AdamWConstants = { readonly beta1: number; readonly beta2: number; readonly epsilon: number };

/** Four tensors of one shape and four scalars; t counts steps from 1. */
export type AdamWInputs = {
  readonly value: tf.Tensor;
  readonly gradient: tf.Tensor;
  readonly first: tf.Tensor;
  readonly second: tf.Tensor;
  /** 1 - learning rate * weight decay. */
  readonly keep: tf.Tensor;
  /** learning rate / (1 - beta1^t). */
  readonly rate: tf.Tensor;
  /** 1 / sqrt(1 - beta2^t). */
  readonly root: tf.Tensor;
  /** Multiplies the gradient. */
  readonly gradientScale: tf.Tensor;
};

export type DiceCrossEntropyConstants = {
  /** Added to the numerator and the denominator of Dice. */
  readonly smooth: number;
};

/** True when the running backend has the kernel. */
export function hasKernel(name: string): boolean {
  return tf.getKernel(name, tf.getBackend()) !== undefined;
}

/** Run a kernel. Call it where no gradient is recorded: kernels of our own have none. */
export function runKernel(name: string, inputs: tf.NamedTensorMap, attributes: object = {}): tf.Tensor[] {
  // The engine types attributes narrowly and outputs widely; both are what the names above say.
  const outputs = tf.engine().runKernel(name, inputs, attributes as tf.NamedAttrMap) as
    | tf.Tensor
    | tf.Tensor[];
  return Array.isArray(outputs) ? outputs : [outputs];
}

/** The first output of a kernel. */
export function runSingleKernel(name: string, inputs: tf.NamedTensorMap, attributes: object = {}): tf.Tensor {
  const [output] = runKernel(name, inputs, attributes);
  tf.util.assert(output !== undefined, () => `kernel ${name} has no output`);
  return output as tf.Tensor; // Asserted above.
}
