// Two-dimensional convolution with PyTorch's symmetric padding, in the form that every backend can differentiate.
// B batch, H W spatial, C channels in, K channels out. Layout is NHWC throughout.

import { runsGraphs } from "../../backend/graph/graph-compiler.ts";
import { expectShape } from "../../backend/shape.ts";
import { tf } from "../../backend/tensors.ts";

type Size2 = readonly [height: number, width: number];

export type Conv2dWeights = {
  /** [kernel height, kernel width, C, K], odd kernel sizes. */
  readonly weight: tf.Tensor4D;
  readonly stride: Size2;
};

/**
 * Half the kernel of zeros on every side: the output has ceil(H / stride) rows.
 * @param x [B, H, W, C] float32
 * @returns [B, H', W', K]
 */
export function conv2d(x: tf.Tensor4D, { weight, stride }: Conv2dWeights): tf.Tensor4D {
  const [kernelHeight, kernelWidth, channels] = weight.shape;
  expectShape(x, ["B", "H", "W", channels]);
  const strides: [number, number] = [stride[0], stride[1]];
  // "same" puts the odd row of a strided window at the other end than PyTorch; without a stride there is none.
  if (stride[0] === 1 && stride[1] === 1) return tf.conv2d(x, weight, strides, "same");
  const [vertical, horizontal] = [(kernelHeight - 1) / 2, (kernelWidth - 1) / 2];
  const margins: tf.backend_util.ExplicitPadding = [
    [0, 0],
    [vertical, vertical],
    [horizontal, horizontal],
    [0, 0],
  ];
  // tfjs-node has gradients for "same" and "valid" only.
  if (!runsGraphs()) return tf.conv2d(x, weight, strides, margins);
  return tf.conv2d(tf.pad(x, margins), weight, strides, "valid");
}
