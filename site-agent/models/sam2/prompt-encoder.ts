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

/** The same as the model computes with it, with whatever points of padding belong to it. */
export type PointTensors = {
  /** Places (x, y) as shares of the image, [B, N, 2]. */
  readonly places: tf.Tensor3D;
  /** A one at the embedding that a point gets, of those of labels -1 to 3: [B, N, 5]. */
  readonly kinds: tf.Tensor3D;
};

export type Prompts = {
  readonly points?: PointPrompts;
  /** B boxes (x1, y1, x2, y2). */
  readonly boxes?: ArrayLike<number>;
  /** Mask logits [B, 4 H, 4 W, 1]. */
  readonly masks?: tf.Tensor4D;
};

export type PromptInputs = Omit<Prompts, "points"> & {
  readonly points?: PointPrompts | PointTensors;
  /** Where not every object has a mask: 1 for those that do, else 0, [B, 1, 1, 1]. */
  readonly maskPresence?: tf.Tensor4D;
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
  { points, boxes, masks, maskPresence }: PromptInputs,
  config: Sam2Config,
  part: ModelPart,
): EncodedPrompts {
  const given = [
    ...(points ? [areTensors(points) ? points : pointTensors(points, config, boxes === undefined)] : []),
    ...(boxes ? [rowTensors(boxRows(boxes), config)] : []),
  ];
  const tokens = given.map((each) => pointTokens(each, config, part));
  const [first] = tokens;
  const sparse = first && tokens.length > 1 ? tf.concat(tokens, 1) : first;
  const dense = masks ? maskImage(masks, part) : noMask(part);
  return { sparse, dense: maskPresence ? presentMasks(dense, maskPresence, part) : dense };
}

/** What objects without points are asked with: one that does not count. */
export function noPoints(objects: number): PointPrompts {
  return {
    coordinates: new Float32Array(2 * objects),
    labels: new Int8Array(objects).fill(NO_POINT),
    pointCount: 1,
  };
}

/** @param padded a padding point follows; unless boxes do, SAM 2 wants it */
export function pointTensors(
  points: PointPrompts,
  config: Pick<Sam2Config, "imageSize">,
  padded = true,
): PointTensors {
  return rowTensors(pointRows(points, padded), config);
}

function areTensors(points: PointPrompts | PointTensors): points is PointTensors {
  return "places" in points;
}

/** The encoding of every place of the image embedding, [1, H * W, C]. */
export function imagePositions(config: Sam2Config, part: ModelPart): tf.Tensor3D {
  const side = embeddingSize(config);
  const places = Float32Array.from({ length: side * side * 2 }, (_, index) => {
    const token = Math.floor(index / 2);
    const place = index % 2 === 0 ? token % side : Math.floor(token / side);
    return (place + HALF_PIXEL) / side;
  });
  const encoded = encodedPlaces(tf.tensor2d(places, [side * side, 2]), part);
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

/** no point, background, foreground and the two corners */
const KINDS = ["not_a_point_embed", ...[0, 1, 2, 3].map((label) => `point_embeddings.${label}`)];

function rowTensors(
  { pixels, labels, countPerObject }: TokenRows,
  { imageSize }: Pick<Sam2Config, "imageSize">,
): PointTensors {
  const objects = labels.length / countPerObject;
  const places = Float32Array.from(pixels, (value) => value / imageSize);
  const kinds = labels.flatMap((label) => KINDS.map((_, kind) => (kind === label + 1 ? 1 : 0)));
  return {
    places: tf.tensor3d(places, [objects, countPerObject, 2]),
    kinds: tf.tensor3d(kinds, [objects, countPerObject, KINDS.length]),
  };
}

/** [B, tokens, C] */
function pointTokens({ places, kinds }: PointTensors, config: Sam2Config, part: ModelPart): tf.Tensor3D {
  const [objects, count] = places.shape;
  const kindOfRow = tf.reshape(kinds, [objects * count, KINDS.length]);
  const isPoint = tf.sub(1, tf.slice(kindOfRow, [0, 0], [objects * count, 1]));
  const table = tf.concat(
    KINDS.map((kind) => part.tensor<tf.Rank.R2>(`${kind}.weight`)),
    0,
  );
  const embedded = tf.matMul(kindOfRow, table);
  const encoded = encodedPlaces(tf.reshape(places, [objects * count, 2]), part);
  return tf.reshape(tf.add(tf.mul(encoded, isPoint), embedded), [objects, count, config.neck.channels]);
}

/** Random Fourier features (Tancik et al. 2020) of (x, y) in [0, 1]: [places, C]. */
function encodedPlaces(places: tf.Tensor2D, part: ModelPart): tf.Tensor2D {
  const centred = tf.sub(tf.mul(places, 2), 1);
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

/** The masks where there are any, and elsewhere what stands for none. */
function presentMasks(masks: tf.Tensor4D, presence: tf.Tensor4D, part: ModelPart): tf.Tensor4D {
  return tf.add(tf.mul(masks, presence), tf.mul(noMask(part), tf.sub(1, presence)));
}
