// Transposed convolution whose kernel is as large as its stride, so that no two windows overlap: nnU-Net's up-sampling.
// B batch, H W spatial, C channels in, K channels out. Layout is NHWC throughout.

import { expectShape } from "../../backend/shape.ts";
import { tf } from "../../backend/tensors.ts";
import { addBias } from "./bias.ts";

export type ConvTranspose2dWeights = {
  /** [kernel height, kernel width, K, C]; the kernel is the stride. */
  readonly weight: tf.Tensor4D;
  /** [K] */
  readonly bias: tf.Tensor1D;
};

/**
 * @param x [B, H, W, C] float32
 * @returns [B, H * kernel height, W * kernel width, K]
 */
export function convTranspose2d(x: tf.Tensor4D, { weight, bias }: ConvTranspose2dWeights): tf.Tensor4D {
  const [strideHeight, strideWidth, outChannels, inChannels] = weight.shape;
  expectShape(x, ["B", "H", "W", inChannels]);
  const [batch, height, width] = x.shape;
  const shape: [number, number, number, number] = [
    batch,
    height * strideHeight,
    width * strideWidth,
    outChannels,
  ];
  return addBias(tf.conv2dTranspose(x, weight, shape, [strideHeight, strideWidth], "valid"), bias);
}
