// The plain bottleneck adapter (Houlsby et al. 2019): every place of an image on its own, narrowed, activated, widened.
// B batch, H W spatial, C channels. Layout is NHWC throughout.

import type { tf } from "../../backend/tensors.ts";
import { gelu } from "../nn/gelu.ts";
import { linear } from "../nn/linear.ts";
import type { ModelPart } from "../nn/model-part.ts";

/**
 * @param image [B, H, W, C] float32
 * @returns what is added to it, [B, H, W, C]
 */
export function bottleneckBranch(image: tf.Tensor4D, part: ModelPart): tf.Tensor4D {
  return linear(gelu(linear(image, part.linear("fc1"))), part.linear("fc2"));
}
