// Asks a SAM 2 about objects in images, without memory, and reads its answers: masks for a loss, the chosen mask of every
// object for people and for corrections.
// B objects, N images, S side of the input.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { tf } from "../backend/tensors.ts";
import { resizeMaps } from "../models/nn/interpolate.ts";
import type { ImageFeatures } from "../models/sam2/image-encoder.ts";
import { bestMask, severalMasks, singleMask } from "../models/sam2/mask-choice.ts";
import type { MaskPrediction } from "../models/sam2/mask-losses.ts";
import type { Sam2 } from "../models/sam2/sam2.ts";
import type { ExamplePrompts } from "./example-prompts.ts";
import { joined } from "./slice-images.ts";

/** Its candidates are as fine as the decoder draws them: logits [B, M, S / 4, S / 4]. */
export type PromptedAnswer = MaskPrediction & {
  /** The chosen mask, logits [B, 1, S / 4, S / 4]. */
  readonly low: tf.Tensor4D;
};

/** A single point can mean several things and is answered by several masks, as SAM 2 does; all else by one. */
const SEVERAL_POINTS_MAX = 1;

/** @param features of every object */
export function askAboutObjects(
  model: Sam2,
  features: ImageFeatures,
  { points, masks }: ExamplePrompts,
): PromptedAnswer {
  const { imageSize: side, maskDecoder } = model.config;
  const grid = side / 4;
  const given = masks && tf.tensor4d(joined(masks), [masks.length, grid, grid, 1]);
  const decoded = model.segment(features, { points, ...(given && { masks: given }) });
  const several = points.pointCount <= SEVERAL_POINTS_MAX;
  const chosen = several ? severalMasks(decoded, maskDecoder) : singleMask(decoded, null);
  return {
    candidates: chosen.masks,
    ious: chosen.ious,
    objectScores: decoded.objectScores,
    low: bestMask(chosen).masks,
  };
}

/** Logits [B, M, height, width] at the side of the input. */
export function resized(masks: tf.Tensor4D, side: number): tf.Tensor4D {
  const [batch, count, height, width] = masks.shape;
  const maps: tf.Tensor3D = tf.reshape(masks, [batch * count, height, width]);
  return tf.reshape(resizeMaps(maps, [side, side], "bilinear"), [batch, count, side, side]);
}

/** The features of N images for every object. */
export function featuresOf({ embedding, fine }: ImageFeatures, owners: readonly number[]): ImageFeatures {
  const indices = tf.tensor1d([...owners], "int32");
  const rows = (image: tf.Tensor4D): tf.Tensor4D => tf.gather(image, indices);
  return { embedding: rows(embedding), fine: fine && [rows(fine[0]), rows(fine[1])] };
}

/** Numbers of every row of a tensor. */
export function rowsOf(tensor: tf.Tensor): Float32Array[] {
  const count = expectDefined(tensor.shape[0], "rows");
  const values = tensor.dataSync<"float32">();
  const length = values.length / count;
  return Array.from({ length: count }, (_, row) => values.slice(row * length, (row + 1) * length));
}

/** 0 and 1 of the chosen masks, each [S, S]. */
export function masksOf(low: tf.Tensor4D, side: number): Uint8Array[] {
  return tf.tidy(() =>
    rowsOf(resized(low, side)).map((logits) => Uint8Array.from(logits, (logit) => Number(logit > 0))),
  );
}

/** Intersection over union of two masks; 1 where both are empty. */
export function maskIou(a: Uint8Array, b: Uint8Array): number {
  let [both, either] = [0, 0];
  for (let pixel = 0; pixel < a.length; pixel += 1) {
    const [inA, inB] = [a[pixel] !== 0, b[pixel] !== 0];
    if (inA && inB) both += 1;
    if (inA || inB) either += 1;
  }
  return either === 0 ? 1 : both / either;
}
