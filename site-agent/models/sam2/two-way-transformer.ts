// The two-way transformer of SAM's mask decoder: prompt tokens attend to each other and to the image, and the image
// attends back.
// B objects, T tokens, N places of the image, C channels.

import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { tf } from "../../backend/tensors.ts";
import { layerNorm } from "../nn/layer-norm.ts";
import { multilayerPerceptron } from "../nn/linear.ts";
import type { ModelPart } from "../nn/model-part.ts";
import { projectedAttention, type Sequences } from "../nn/projected-attention.ts";

const EPSILON = 1e-5;

export type TwoWayInputs = {
  /** [B, T, C] */
  readonly tokens: tf.Tensor3D;
  /** [B, H, W, C] */
  readonly image: tf.Tensor4D;
  /** [1, H * W, C] */
  readonly positions: tf.Tensor3D;
};

type Pair = { readonly tokens: tf.Tensor3D; readonly image: tf.Tensor3D };
/** What is added to queries and keys but not to values. */
type Encodings = Pair;

/** @returns tokens [B, T, C] and the image as a sequence [B, H * W, C] */
export function twoWayTransformer(
  { tokens, image, positions }: TwoWayInputs,
  config: Sam2Config["maskDecoder"],
  part: ModelPart,
): Pair {
  const [batch, height, width, channels] = image.shape;
  const encodings = { tokens, image: positions };
  let pair: Pair = { tokens, image: tf.reshape(image, [batch, height * width, channels]) };
  for (let layer = 0; layer < config.depth; layer += 1) {
    const name = `layers.${layer}`;
    pair = twoWayLayer(pair, encodings, {
      part: part.under(name),
      isFirst: layer === 0,
      headCount: config.headCount,
      size: [height, width],
    });
  }
  const last = attend(pair.tokens, pair.image, encodings, {
    part: part.under("final_attn_token_to_image"),
    headCount: config.headCount,
  });
  return { ...pair, tokens: layerNorm(sum(pair.tokens, last), part.norm("norm_final_attn"), EPSILON) };
}

type Layer = {
  readonly part: ModelPart;
  readonly isFirst: boolean;
  readonly headCount: number;
  readonly size: readonly [height: number, width: number];
};

function twoWayLayer(pair: Pair, encodings: Encodings, { part, isFirst, headCount, size }: Layer): Pair {
  const norm = (x: tf.Tensor3D, index: number) => layerNorm(x, part.norm(`norm${index}`), EPSILON);
  let tokens = norm(selfAttended(pair.tokens, encodings, { part, isFirst, headCount }), 1);
  const toImage = { part: part.under("cross_attn_token_to_image"), headCount };
  tokens = norm(sum(tokens, attend(tokens, pair.image, encodings, toImage)), 2);
  const perceptron = [part.linear("mlp.layers.0"), part.linear("mlp.layers.1")];
  tokens = norm(sum(tokens, multilayerPerceptron(tokens, perceptron)), 3);
  const keys = sum(tokens, encodings.tokens);
  const queries = sum(pair.image, encodings.image);
  const name = "cross_attn_image_to_token";
  const back = projectedAttention({ query: queries, key: keys, value: tokens }, part.under(name), {
    headCount,
  });
  const [batch, places, channels] = back.shape;
  const adapted = part.adapt(name, tf.reshape(back, [batch, ...size, channels]));
  const image = norm(sum(pair.image, tf.reshape(adapted, [batch, places, channels])), 4);
  return { tokens, image };
}

/** The first layer replaces the tokens and leaves their encoding out: they are their own encoding. */
function selfAttended(
  tokens: tf.Tensor3D,
  encodings: Encodings,
  { part, isFirst, headCount }: Omit<Layer, "size">,
): tf.Tensor3D {
  const asked = isFirst ? tokens : sum(tokens, encodings.tokens);
  const sequences: Sequences = { query: asked, key: asked, value: tokens };
  const attended = projectedAttention(sequences, part.under("self_attn"), { headCount });
  return isFirst ? attended : sum(tokens, attended);
}

/** Tokens ask the image. */
function attend(
  tokens: tf.Tensor3D,
  image: tf.Tensor3D,
  encodings: Encodings,
  { part, headCount }: Pick<Layer, "part" | "headCount">,
): tf.Tensor3D {
  const sequences = { query: sum(tokens, encodings.tokens), key: sum(image, encodings.image), value: image };
  return projectedAttention(sequences, part, { headCount });
}

function sum(a: tf.Tensor3D, b: tf.Tensor3D): tf.Tensor3D {
  return tf.add(a, b);
}
