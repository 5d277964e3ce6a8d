// SAM 2's image trunk: overlapping patches, a position embedding that is stretched over the image with a small one
// repeated on top, and the blocks of Hiera. It takes images of any size that the repeated embedding divides.
// B batch, H W spatial, C channels. Layout is NHWC throughout.

import type { Sam2TrunkConfig } from "@consilium/shared/model/sam2.ts";
import { hieraBlocks } from "@consilium/shared/model/sam2-trunk.ts";
import { BackendError } from "../../backend/backend-error.ts";
import { expectShape } from "../../backend/shape.ts";
import { tf } from "../../backend/tensors.ts";
import { biasedConv2d } from "../nn/biased-conv2d.ts";
import { resizeMaps } from "../nn/interpolate.ts";
import type { ModelPart } from "../nn/model-part.ts";
import { hieraBlock } from "./hiera-block.ts";

const PATCH = { stride: 4, padding: 3 };

/**
 * @param images [B, H, W, 3] float32, normalised
 * @returns the image behind every stage, from full resolution down: [B, H / 4, W / 4, embedDim] first
 */
export function trunk(images: tf.Tensor4D, config: Sam2TrunkConfig, part: ModelPart): tf.Tensor4D[] {
  expectShape(images, ["B", "H", "W", 3]);
  const patches = part.observe(biasedConv2d(images, part.conv("patch_embed.proj"), PATCH), "patch_embed");
  const [, height, width] = patches.shape;
  const positions = part.observe(positionEmbedding([height, width], part), "pos_embed");
  const stages: tf.Tensor4D[] = [];
  let image = tf.add(patches, positions) as tf.Tensor4D; // The shape of the patches.
  for (const spec of hieraBlocks(config)) {
    image = hieraBlock(image, spec, part.under(`blocks.${spec.index}`));
    if (spec.endsStage) stages.push(image);
  }
  return stages;
}

/** [1, H, W, C] */
function positionEmbedding([height, width]: readonly [number, number], part: ModelPart): tf.Tensor4D {
  const window = part.tensor<tf.Rank.R4>("pos_embed_window");
  const [, channels, rows, columns] = window.shape;
  if (height % rows !== 0 || width % columns !== 0) {
    const message = `The image must have a multiple of ${4 * rows} rows and of ${4 * columns} columns.`;
    throw new BackendError("backend.unsupported-shape", message);
  }
  const background = tf.squeeze<tf.Tensor3D>(part.tensor("pos_embed"), [0]);
  const stretched = tf.transpose(resizeMaps(background, [height, width], "bicubic"), [1, 2, 0]);
  const tiles = tf.reshape(stretched, [height / rows, rows, width / columns, columns, channels]);
  const repeated = tf.reshape(tf.transpose(window, [0, 2, 3, 1]), [1, rows, 1, columns, channels]);
  return tf.reshape(tf.add(tiles, repeated), [1, height, width, channels]);
}
