// RFMedSAM 2's CNN-Adapter for the levels of the feature pyramid (Xie et al. 2025). Inferred: the paper names it and its
// place only; here it narrows, activates, convolves depth-wise and widens again.
// B batch, H W spatial, C channels. Layout is NHWC throughout.

import type { tf } from "../../backend/tensors.ts";
import { biasedConv2d } from "../nn/biased-conv2d.ts";
import { gelu } from "../nn/gelu.ts";
import type { ModelPart } from "../nn/model-part.ts";
import { depthwiseConv2d } from "./depthwise-conv.ts";

/**
 * @param image [B, H, W, C] float32
 * @returns what is added to it, [B, H, W, C]
 */
export function cnnBranch(image: tf.Tensor4D, part: ModelPart): tf.Tensor4D {
  const narrow = gelu(biasedConv2d(image, part.conv("conv1")));
  return biasedConv2d(depthwiseConv2d(narrow, part.conv("dwconv")), part.conv("conv2"));
}
