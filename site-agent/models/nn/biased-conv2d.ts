// Two-dimensional convolution with a bias, any kernel size and the same number of zeros on every side, as PyTorch has it.
// B batch, H W spatial, C channels in, K channels out. Layout is NHWC throughout.

import { runsGraphs } from "../../backend/graph/graph-compiler.ts";
import { expectShape } from "../../backend/shape.ts";
import { tf } from "../../backend/tensors.ts";
import { addBias } from "./bias.ts";
import { linear } from "./linear.ts";

export type BiasedConvWeights = {
  /** [kernel height, kernel width, C, K] */
  readonly weight: tf.Tensor4D;
  /** [K] */
  readonly bias: tf.Tensor1D;
};

/**
 * @param x [B, H, W, C] float32
 * @returns [B, H', W', K]
 */
export function biasedConv2d(
  x: tf.Tensor4D,
  { weight, bias }: BiasedConvWeights,
  { stride = 1, padding = 0 }: { readonly stride?: number; readonly padding?: number } = {},
): tf.Tensor4D {
  expectShape(x, ["B", "H", "W", weight.shape[2]]);
  const [height, width, channels, outChannels] = weight.shape;
  // A product of matrices is faster, forward and backward, than what backends make of the convolution.
  if (height * width === 1 && stride === 1 && padding === 0)
    return linear(x, { weight: tf.reshape(weight, [channels, outChannels]), bias });
  const side: [number, number] = [padding, padding];
  const margins: tf.backend_util.ExplicitPadding = [[0, 0], side, side, [0, 0]];
  if (padding === 0) return addBias(tf.conv2d(x, weight, stride, "valid"), bias);
  // tfjs-node has gradients for "same" and "valid" only.
  if (!runsGraphs()) return addBias(tf.conv2d(x, weight, stride, margins), bias);
  return addBias(tf.conv2d(tf.pad(x, margins), weight, stride, "valid"), bias);
}
