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
  const [stride4, stride8, embedding] = pyramid(stages, config, model);
  assert(stride4 && stride8 && embedding, "a pyramid has at least three levels");
  return { embedding, fine: config.maskDecoder.highResolution ? [stride4, stride8] : undefined };
}

/** Levels below the one that is the embedding. */
const FINE_LEVELS = 2;

/**
 * One level for every stage, from full resolution down; the fine ones as the decoder takes them, where it does. Adapters
 * take hold behind each lateral convolution. A fine level has many more numbers before than behind the decoder's
 * convolution: the former are not kept.
 */
function pyramid(
  stages: readonly tf.Tensor4D[],
  { neck, maskDecoder }: Sam2Config,
  model: ModelPart,
): tf.Tensor4D[] {
  const [part, decoder] = [model.under("image_encoder.neck"), model.under("sam_mask_decoder")];
  const levels: tf.Tensor4D[] = [];
  let below: tf.Tensor4D | undefined;
  for (let level = stages.length - 1; level >= 0; level -= 1) {
    const lateral = part.under(`convs.${stages.length - 1 - level}`);
    const joins = below !== undefined && neck.topDownLevels.includes(level);
    const inputs = {
      image: expectDefined(stages[level], "stage of the trunk"),
      ...(joins && below && { below }),
    };
    const own = (given: tf.NamedTensorMap): tf.Tensor4D => {
      const image = given["image"] as tf.Tensor4D; // Given above.
      const adapted = lateral.adapt("", biasedConv2d(image, lateral.conv("conv")));
      return part.observe(
        joins ? fused(adapted, given["below"] as tf.Tensor4D, neck) : adapted,
        `level${level}`,
      ); // As above.
    };
    const isTaken = maskDecoder.highResolution && level < FINE_LEVELS;
    const taken = (image: tf.Tensor4D): tf.Tensor4D =>
      decoder.observe(biasedConv2d(image, decoder.conv(`conv_s${level}`)), `conv_s${level}`);
    const isJoined = neck.topDownLevels.includes(level - 1);
    if (isTaken && !isJoined)
      levels.unshift(lateral.block(inputs, (given) => taken(own(given)), [decoder.under(`conv_s${level}`)]));
    else {
      below = lateral.block(inputs, own);
      levels.unshift(isTaken ? taken(below) : below);
    }
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
