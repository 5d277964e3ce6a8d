// SAM 2's image encoder: the trunk, the feature pyramid above it, and the two finer levels in the form in which the mask
// decoder takes them.
// B batch, H W spatial, C channels. Layout is NHWC throughout.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { tf } from "../../backend/tensors.ts";
import { biasedConv2d } from "../nn/biased-conv2d.ts";
import { resizeMaps } from "../nn/interpolate.ts";
import type { ModelPart } from "../nn/model-part.ts";
import { trunk } from "./trunk.ts";

export type ImageFeatures = {
  /** [B, H / 16, W / 16, C] */
  readonly embedding: tf.Tensor4D;
  /** Strides 4 and 8 with C / 8 and C / 4 channels; undefined in models without high-resolution features. */
  readonly fine: [stride4: tf.Tensor4D, stride8: tf.Tensor4D] | undefined;
};

/**
 * @param images [B, H, W, 3] float32, normalised
 * @param model the part without a name, which holds everything
 */
export function encodeImages(images: tf.Tensor4D, config: Sam2Config, model: ModelPart): ImageFeatures {
  const encoder = model.under("image_encoder");
  const stages = trunk(images, config.trunk, encoder.under("trunk"));
  const levels = neck(stages, config.neck, encoder.under("neck"));
  const [stride4, stride8, embedding] = levels;
  assert(stride4 && stride8 && embedding, "a pyramid has at least three levels");
  if (!config.maskDecoder.highResolution) return { embedding, fine: undefined };
  const decoder = model.under("sam_mask_decoder");
  const fine: ImageFeatures["fine"] = [
    decoder.observe(biasedConv2d(stride4, decoder.conv("conv_s0")), "conv_s0"),
    decoder.observe(biasedConv2d(stride8, decoder.conv("conv_s1")), "conv_s1"),
  ];
  return { embedding, fine };
}

/** One level for every stage, from full resolution down; adapters take hold behind each lateral convolution. */
function neck(stages: readonly tf.Tensor4D[], config: Sam2Config["neck"], part: ModelPart): tf.Tensor4D[] {
  const levels: tf.Tensor4D[] = [];
  for (let level = stages.length - 1; level >= 0; level -= 1) {
    const name = `convs.${stages.length - 1 - level}`;
    const image = expectDefined(stages[level], "stage of the trunk");
    const lateral = part.adapt(name, biasedConv2d(image, part.conv(`${name}.conv`)));
    const below = levels[0];
    const joins = below !== undefined && config.topDownLevels.includes(level);
    levels.unshift(part.observe(joins ? fused(lateral, below, config) : lateral, `level${level}`));
  }
  return levels;
}

function fused(
  lateral: tf.Tensor4D,
  below: tf.Tensor4D,
  { interpolation, fusion }: Sam2Config["neck"],
): tf.Tensor4D {
  const [batch, height, width, channels] = below.shape;
  const size: [number, number] = [2 * height, 2 * width];
  const nearest = interpolation === "nearest";
  const above = nearest ? tf.image.resizeNearestNeighbor(below, size) : bilinear(below, size);
  tf.util.assertShapesMatch(lateral.shape, [batch, ...size, channels], "pyramid levels: ");
  const sum = tf.add(lateral, above);
  return (fusion === "avg" ? tf.mul(sum, 0.5) : sum) as tf.Tensor4D; // The shape of the lateral image.
}

function bilinear(image: tf.Tensor4D, size: [number, number]): tf.Tensor4D {
  const [batch, height, width, channels] = image.shape;
  const maps: tf.Tensor3D = tf.reshape(tf.transpose(image, [0, 3, 1, 2]), [batch * channels, height, width]);
  const resized: tf.Tensor4D = tf.reshape(resizeMaps(maps, size, "bilinear"), [batch, channels, ...size]);
  return tf.transpose(resized, [0, 2, 3, 1]);
}
