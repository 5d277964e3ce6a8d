// Depth-wise convolution of odd kernels with a bias, as much image out as in.
// B batch, H W spatial, C channels. Layout is NHWC throughout.

import { expectShape } from "../../backend/shape.ts";
import { tf } from "../../backend/tensors.ts";
import { addBias } from "../nn/bias.ts";
import type { BiasedConvWeights } from "../nn/biased-conv2d.ts";

/**
 * @param x [B, H, W, C] float32
 * @param weights `weight` is [kernel height, kernel width, C, 1]
 */
export function depthwiseConv2d(x: tf.Tensor4D, { weight, bias }: BiasedConvWeights): tf.Tensor4D {
  expectShape(x, ["B", "H", "W", weight.shape[2]]);
  return addBias(tf.depthwiseConv2d(x, weight, 1, "same"), bias);
}
