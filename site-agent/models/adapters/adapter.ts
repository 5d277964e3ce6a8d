// An adapter of images: a small branch of trained layers beside a result of the frozen model, added to it. The branch
// ends in a layer that starts at zero, so that an adapter that was never trained changes nothing.
// B batch, H W spatial, C channels. Layout is NHWC throughout.

import { unreachable } from "@consilium/shared/base/assert.ts";
import type { ImageAdapterPlace } from "@consilium/shared/model/adapters-places.ts";
import { expectShape } from "../../backend/shape.ts";
import { tf } from "../../backend/tensors.ts";
import type { ModelPart } from "../nn/model-part.ts";
import { bottleneckBranch } from "./bottleneck-adapter.ts";
import { cnnBranch } from "./cnn-adapter.ts";
import { dwconvBranch } from "./dwconv-adapter.ts";

/**
 * Inferred: the branch is added as it is, without a factor.
 * @param image [B, H, W, C] float32
 * @param part the adapter's own tensors
 * @returns [B, H, W, C]
 */
export function adaptImage(image: tf.Tensor4D, place: ImageAdapterPlace, part: ModelPart): tf.Tensor4D {
  expectShape(image, ["B", "H", "W", place.channels]);
  return tf.tidy(() => tf.add(image, branch(image, place, part)));
}

function branch(image: tf.Tensor4D, place: ImageAdapterPlace, part: ModelPart): tf.Tensor4D {
  switch (place.kind) {
    case "dwconv":
      return dwconvBranch(image, place.order, part);
    case "cnn":
      return cnnBranch(image, part);
    case "bottleneck":
      return bottleneckBranch(image, part);
    default:
      return unreachable(place, "adapter");
  }
}
