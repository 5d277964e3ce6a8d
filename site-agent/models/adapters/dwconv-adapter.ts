// RFMedSAM 2's DWConvAdapter (Xie et al. 2025): a bottleneck with a depth-wise convolution in it. Inferred: the layers are
// those that are reported of it (norm, linear projection, depth-wise 3 x 3, GELU, norm, point-wise convolution, residual),
// in this order; their widths, the epsilon and that the convolution sees the whole image and no windows are not published.
// B batch, H W spatial, C channels, R channels inside. Layout is NHWC throughout.

import { unreachable } from "@consilium/shared/base/assert.ts";
import type { AdapterOrder } from "@consilium/shared/model/adapters.ts";
import { tf } from "../../backend/tensors.ts";
import { gelu } from "../nn/gelu.ts";
import { layerNorm } from "../nn/layer-norm.ts";
import { linear } from "../nn/linear.ts";
import type { ModelPart } from "../nn/model-part.ts";
import { depthwiseConv2d } from "./depthwise-conv.ts";

const EPSILON = 1e-6;

/**
 * @param image [B, H, W, C] float32
 * @returns what is added to it, [B, H, W, C]
 */
export function dwconvBranch(image: tf.Tensor4D, order: AdapterOrder, part: ModelPart): tf.Tensor4D {
  const narrow = linear(layerNorm(image, part.norm("norm1"), EPSILON), part.linear("fc1"));
  return linear(mixed(narrow, order, part), part.linear("fc2"));
}

/** [B, H, W, R] */
function mixed(narrow: tf.Tensor4D, order: AdapterOrder, part: ModelPart): tf.Tensor4D {
  switch (order) {
    case "sequential":
      return layerNorm(gelu(depthwiseConv2d(narrow, part.conv("dwconv"))), part.norm("norm2"), EPSILON);
    case "inner-residual": {
      // As in the same authors' MaskSAM, whose convolution also runs over depth; the outer norm is not in it.
      const active = gelu(narrow);
      const local = layerNorm(depthwiseConv2d(active, part.conv("dwconv")), part.norm("norm2"), EPSILON);
      return tf.add(active, gelu(local));
    }
    default:
      return unreachable(order, "order");
  }
}
