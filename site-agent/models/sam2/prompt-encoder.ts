// SAM 2's prompt encoder: points, boxes and a mask become tokens and an image. Points and boxes come as numbers, in
// pixels of the model's input, without the half pixel that is added here.
// B objects, N points, H W the image embedding, C channels. Layout is NHWC throughout.

import { assert } from "@consilium/shared/base/assert.ts";
import { embeddingSize, type Sam2Config } from "@consilium/shared/model/sam2.ts";
import { tf } from "../../backend/tensors.ts";
import { biasedConv2d } from "../nn/biased-conv2d.ts";
import { gelu } from "../nn/gelu.ts";
import { layerNorm } from "../nn/layer-norm.ts";
import type { ModelPart } from "../nn/model-part.ts";

/** Labels: 0 background, 1 foreground, 2 and 3 the corners of a box, -1 no point. */
export type PointPrompts = {
  /** B times N pairs (x, y). */
  readonly coordinates: ArrayLike<number>;
  /** B times N. */
  readonly labels: ArrayLike<number>;
  /** N */
  readonly pointCount: number;
};

export type Prompts = {
  readonly points?: PointPrompts;
  /** B boxes (x1, y1, x2, y2). */
  readonly boxes?: ArrayLike<number>;
  /** Mask logits [B, 4 H, 4 W, 1]. */
  readonly masks?: tf.Tensor4D;
};

export type EncodedPrompts = {
  /** [B, tokens, C]; undefined without points and boxes. */
  readonly sparse: tf.Tensor3D | undefined;
  /** [B, H, W, C], or [1, 1, 1, C] for everywhere the same. */
  readonly dense: tf.Tensor4D;
};

const NO_POINT = -1;
const HALF_PIXEL = 0.5;
const EPSILON = 1e-6;

/** @param part sam_prompt_encoder */
export function encodePrompts(
  { points, boxes, masks }: Prompts,
  config: Sam2Config,
  part: ModelPart,
): EncodedPrompts {
  const rows = [
    ...(points ? [pointRows(points, boxes === undefined)] : []),
    ...(boxes ? [boxRows(boxes)] : []),
  ];
  const tokens = rows.map((given) => pointTokens(given, config, part));
  const [first] = tokens;
  const sparse = first && tokens.length > 1 ? tf.concat(tokens, 1) : first;
  const dense = masks ? maskImage(masks, part) : noMask(part);
  return { sparse, dense };
}

/** The encoding of every place of the image embedding, [1, H * W, C]. */
export function imagePositions(config: Sam2Config, part: ModelPart): tf.Tensor3D {
  const side = embeddingSize(config);
  const places = Float32Array.from({ length: side * side * 2 }, (_, index) => {
    const token = Math.floor(index / 2);
    const place = index % 2 === 0 ? token % side : Math.floor(token / side);
    return (place + HALF_PIXEL) / side;
  });
  const encoded = encodedPlaces(places, part);
  return tf.reshape(encoded, [1, side * side, config.neck.channels]);
}

/** Rows of tokens: places as shares of the image, and which embedding each one gets. */
type TokenRows = { readonly pixels: number[]; readonly labels: number[]; readonly countPerObject: number };

/** A padding point follows unless boxes do. */
function pointRows({ coordinates, labels, pointCount }: PointPrompts, padded: boolean): TokenRows {
  const objects = pointCount === 0 ? 1 : labels.length / pointCount;
  assert(
    coordinates.length === 2 * labels.length && Number.isInteger(objects),
    "two coordinates for each label",
  );
  const rows: TokenRows = { pixels: [], labels: [], countPerObject: pointCount + (padded ? 1 : 0) };
  for (let object = 0; object < objects; object += 1) {
    for (let point = object * pointCount; point < (object + 1) * pointCount; point += 1) {
      rows.pixels.push(
        (coordinates[2 * point] ?? 0) + HALF_PIXEL,
        (coordinates[2 * point + 1] ?? 0) + HALF_PIXEL,
      );
      rows.labels.push(labels[point] ?? NO_POINT);
    }
    if (!padded) continue;
    rows.pixels.push(0, 0);
    rows.labels.push(NO_POINT);
  }
  return rows;
}

function boxRows(boxes: ArrayLike<number>): TokenRows {
  const pixels = Array.from(boxes, (value) => value + HALF_PIXEL);
  return {
    pixels,
    labels: pixels.filter((_, index) => index % 2 === 0).map((_, index) => 2 + (index % 2)),
    countPerObject: 2,
  };
}

/** [B, tokens, C] */
function pointTokens(
  { pixels, labels, countPerObject }: TokenRows,
  config: Sam2Config,
  part: ModelPart,
): tf.Tensor3D {
  const places = Float32Array.from(pixels, (value) => value / config.imageSize);
  const isPoint = tf.tensor2d(
    labels.map((label) => (label === NO_POINT ? 0 : 1)),
    [labels.length, 1],
  );
  const kinds = ["not_a_point_embed", ...[0, 1, 2, 3].map((label) => `point_embeddings.${label}`)];
  const table = tf.concat(
    kinds.map((kind) => part.tensor<tf.Rank.R2>(`${kind}.weight`)),
    0,
  );
  const kindOfLabel = labels.flatMap((label) => kinds.map((_, kind) => (kind === label + 1 ? 1 : 0)));
  const embedded = tf.matMul(tf.tensor2d(kindOfLabel, [labels.length, kinds.length]), table);
  const tokens = tf.add(tf.mul(encodedPlaces(places, part), isPoint), embedded);
  return tf.reshape(tokens, [labels.length / countPerObject, countPerObject, config.neck.channels]);
}

/** Random Fourier features (Tancik et al. 2020) of (x, y) in [0, 1]: [places, C]. */
function encodedPlaces(places: Float32Array, part: ModelPart): tf.Tensor2D {
  const centred = tf.tensor2d(
    places.map((value) => 2 * value - 1),
    [places.length / 2, 2],
  );
  const matrix = part.tensor<tf.Rank.R2>("pe_layer.positional_encoding_gaussian_matrix");
  const angles = tf.mul(tf.matMul(centred, matrix), 2 * Math.PI);
  return tf.concat([tf.sin(angles), tf.cos(angles)], 1) as tf.Tensor2D; // Two of the same rank.
}

function maskImage(masks: tf.Tensor4D, part: ModelPart): tf.Tensor4D {
  const halved = (x: tf.Tensor4D, conv: string, norm: string) =>
    gelu(layerNorm(biasedConv2d(x, part.conv(conv), { stride: 2 }), part.norm(norm), EPSILON));
  const quarter = halved(
    halved(masks, "mask_downscaling.0", "mask_downscaling.1"),
    "mask_downscaling.3",
    "mask_downscaling.4",
  );
  return biasedConv2d(quarter, part.conv("mask_downscaling.6"));
}

function noMask(part: ModelPart): tf.Tensor4D {
  const embedding = part.tensor<tf.Rank.R2>("no_mask_embed.weight");
  return tf.reshape(embedding, [1, 1, 1, embedding.size]);
}
