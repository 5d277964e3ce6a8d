// SAM 2's mask decoder: an image embedding and encoded prompts become masks, an estimate of each mask's overlap with the
// truth, a token for each mask, and a score for the object being there at all.
// B objects, M masks, T tokens, H W the image embedding, C channels. Images are NHWC; masks are [B, M, 4 H, 4 W].

import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { tf } from "../../backend/tensors.ts";
import { convTranspose2d } from "../nn/conv-transpose2d.ts";
import { gelu } from "../nn/gelu.ts";
import { layerNorm } from "../nn/layer-norm.ts";
import { multilayerPerceptron } from "../nn/linear.ts";
import type { ModelPart } from "../nn/model-part.ts";
import type { ImageFeatures } from "./image-encoder.ts";
import type { EncodedPrompts } from "./prompt-encoder.ts";
import { twoWayTransformer } from "./two-way-transformer.ts";

export type DecodedMasks = {
  /** Logits [B, M, 4 H, 4 W]; the first is the single mask. */
  readonly masks: tf.Tensor4D;
  /** [B, M] */
  readonly ious: tf.Tensor2D;
  /** [B, M, C] */
  readonly tokens: tf.Tensor3D;
  /** Logits [B, 1]. */
  readonly objectScores: tf.Tensor2D;
};

export type DecoderInputs = {
  /** One image for all objects, or one for each; the embedding carries the memory. */
  readonly features: ImageFeatures;
  readonly prompts: EncodedPrompts;
  /** [1, H * W, C] */
  readonly positions: tf.Tensor3D;
};

const EPSILON = 1e-6;
const HEAD_DEPTH = 3;
/** What a model without such a head says. */
const CERTAIN_SCORE = 10;

/** @param part sam_mask_decoder */
export function decodeMasks(
  { features, prompts, positions }: DecoderInputs,
  { maskDecoder: config }: Sam2Config,
  part: ModelPart,
): DecodedMasks {
  const { sparse, dense } = prompts;
  const batch = sparse?.shape[0] ?? dense.shape[0];
  const tokens = inputTokens(batch, sparse, config, part);
  const image = perObject(
    tf.add<tf.Tensor4D>(features.embedding, dense),
    Math.max(batch, features.embedding.shape[0]),
  );
  const transformer = part.under("transformer");
  const decoded = twoWayTransformer({ tokens, image, positions }, config, transformer);
  transformer.observe(decoded.tokens, "tokens");
  transformer.observe(decoded.image, "image");
  const special = config.objectScore ? 2 : 1;
  const maskCount = config.multimaskCount + 1;
  const [objects, , channels] = decoded.tokens.shape;
  const token = (index: number) =>
    tf.reshape(tf.slice(decoded.tokens, [0, index, 0], [objects, 1, channels]), [
      objects,
      channels,
    ]) as tf.Tensor2D; // Two axes.
  const maskTokens = tf.slice(decoded.tokens, [0, special, 0], [objects, maskCount, channels]);
  const upscaled = upscale(tf.reshape(decoded.image, image.shape), features, part);
  const ious = multilayerPerceptron(
    token(special - 1),
    layers("iou_prediction_head", config.iouHeadDepth, part),
  );
  return {
    masks: maskLogits(maskTokens, upscaled, part),
    ious: config.iouSigmoid ? tf.sigmoid(ious) : ious,
    tokens: maskTokens,
    objectScores: objectScores(token(0), config, part),
  };
}

/** Learned tokens before those of the prompts: [B, T, C]. */
function inputTokens(
  batch: number,
  sparse: tf.Tensor3D | undefined,
  { objectScore }: Sam2Config["maskDecoder"],
  part: ModelPart,
): tf.Tensor3D {
  const names = [...(objectScore ? ["obj_score_token"] : []), "iou_token", "mask_tokens"];
  const learned = tf.concat(
    names.map((name) => part.tensor<tf.Rank.R2>(`${name}.weight`)),
    0,
  );
  const [count, channels] = learned.shape;
  const tokens = tf.broadcastTo(tf.reshape(learned, [1, count, channels]), [
    batch,
    count,
    channels,
  ]) as tf.Tensor3D; // Three axes.
  return sparse ? tf.concat([tokens, sparse], 1) : tokens;
}

function perObject(image: tf.Tensor4D, batch: number): tf.Tensor4D {
  const [given, height, width, channels] = image.shape;
  return given === batch ? image : tf.broadcastTo(image, [batch, height, width, channels]);
}

/** [B, H, W, C] -> [B, 4 H, 4 W, C / 8] */
function upscale(image: tf.Tensor4D, { fine }: ImageFeatures, part: ModelPart): tf.Tensor4D {
  const double = (x: tf.Tensor4D, name: string, finer?: tf.Tensor4D) => {
    const larger = convTranspose2d(x, part.conv(`output_upscaling.${name}`));
    return (finer ? tf.add(larger, finer) : larger) as tf.Tensor4D; // The shape of the larger image.
  };
  const first = layerNorm(double(image, "0", fine?.[1]), part.norm("output_upscaling.1"), EPSILON);
  return gelu(double(gelu(first), "3", fine?.[0]));
}

/** Every mask token becomes a filter over the upscaled image. */
function maskLogits(tokens: tf.Tensor3D, image: tf.Tensor4D, part: ModelPart): tf.Tensor4D {
  const [batch, maskCount, channels] = tokens.shape;
  const [, height, width, imageChannels] = image.shape;
  const filters = tf.unstack(tokens, 1).map((token, mask) => {
    const name = `output_hypernetworks_mlps.${mask}`;
    return multilayerPerceptron(tf.reshape(token, [batch, channels]), layers(name, HEAD_DEPTH, part));
  });
  const pixels = tf.reshape(image, [batch, height * width, imageChannels]);
  const masks = tf.matMul(tf.stack(filters, 1), pixels, false, true);
  return tf.reshape(masks, [batch, maskCount, height, width]);
}

function objectScores(token: tf.Tensor2D, config: Sam2Config["maskDecoder"], part: ModelPart): tf.Tensor2D {
  const name = "pred_obj_score_head";
  if (!config.objectScore) return tf.fill([token.shape[0], 1], CERTAIN_SCORE);
  const head = config.objectScoreMlp ? layers(name, HEAD_DEPTH, part) : [part.linear(name)];
  return multilayerPerceptron(token, head);
}

function layers(name: string, depth: number, part: ModelPart) {
  return Array.from({ length: depth }, (_, layer) => part.linear(`${name}.layers.${layer}`));
}
