// One frame of SAM 2: its image embedding takes up the memories of other frames, the decoder answers the frame's prompts,
// and the answer becomes a memory and a pointer for the frames to come. The order of frames is the caller's.
// B objects, S side of the input, C channels. Masks are logits [B, masks, height, width].

import { assert } from "@consilium/shared/base/assert.ts";
import { embeddingSize, type Sam2Config } from "@consilium/shared/model/sam2.ts";
import { tf } from "../../backend/tensors.ts";
import { biasedConv2d } from "../nn/biased-conv2d.ts";
import { resizeMaps } from "../nn/interpolate.ts";
import { linear, multilayerPerceptron } from "../nn/linear.ts";
import type { ModelPart } from "../nn/model-part.ts";
import { sineImagePositions } from "../nn/sine-positions.ts";
import type { ImageFeatures } from "./image-encoder.ts";
import { bestMask, severalMasks, singleMask } from "./mask-choice.ts";
import { decodeMasks } from "./mask-decoder.ts";
import { attendToMemory, type MemoryTokens } from "./memory-attention.ts";
import { type FrameMemory, type MemoryBank, memoryTokens } from "./memory-bank.ts";
import { encodeMemory } from "./memory-encoder.ts";
import { memoryTokensOfEach, type RememberedTensors } from "./memory-of-each.ts";
import { type MemorySelection, type Remembering, selectMemories } from "./memory-selection.ts";
import {
  encodePrompts,
  imagePositions,
  noPoints,
  type PointPrompts,
  type PointTensors,
} from "./prompt-encoder.ts";

/** The logit of a mask whose object is not there. */
const ABSENT_LOGIT = -1024;
/** A mask that is given as the answer, as logits: 20 m - 10. */
const GIVEN_SCALE = 20;
const GIVEN_BIAS = -10;

export type FramePrompts = {
  readonly points?: PointPrompts;
  /** 0 and 1, [B, 1, S, S]; where the record says so it is the answer. */
  readonly mask?: tf.Tensor4D;
  /** Logits of an earlier answer on this frame, [B, 1, S / 4, S / 4]. */
  readonly earlierMask?: tf.Tensor4D;
};

/** Prompts as tensors, so that they can change where nothing else does. */
export type ObjectPrompts = {
  readonly points: PointTensors;
  /** Logits of an earlier answer, [B, 1, S / 4, S / 4]. */
  readonly earlierMask?: tf.Tensor4D;
  /** Where not every object has one: 1 for those that do, else 0, [B, 1, 1, 1]. */
  readonly maskPresence?: tf.Tensor4D;
};

export type FrameInput = Pick<Remembering, "frame" | "frameCount" | "reverse" | "training"> & {
  readonly features: ImageFeatures;
  readonly prompts: FramePrompts;
  /** The first frame with a prompt has no memory to attend to. */
  readonly isFirst: boolean;
  readonly bank: MemoryBank;
};

/** Questions about objects one by one: the caller says what each remembers, and the decoder gives its single mask. */
export type ObjectsInput = {
  readonly objectCount: number;
  /** One image for all objects, or one for each. */
  readonly features: ImageFeatures;
  readonly prompts: ObjectPrompts;
  /** Null looks at the images alone. */
  readonly remembered: RememberedTensors | null;
};

export type FrameAnswer = {
  /** The chosen mask, [B, 1, S / 4, S / 4] and [B, 1, S, S]. */
  readonly lowMasks: tf.Tensor4D;
  readonly highMasks: tf.Tensor4D;
  /** The same logits [B, 1, S / 4, S / 4] whether or not the object counts as there: what training looks at. */
  readonly bareMasks: tf.Tensor4D;
  /** All masks that it was chosen from, [B, masks, S, S], and the estimates of their overlap, [B, masks]. */
  readonly candidates: tf.Tensor4D;
  readonly ious: tf.Tensor2D;
  /** Logits [B, 1]. */
  readonly objectScores: tf.Tensor2D;
  /** [B, C]; the bare token in models whose memory has no pointers. */
  readonly pointer: tf.Tensor2D;
};

export type TrackedFrame = FrameAnswer & { readonly memory: FrameMemory };

/** @param model the part without a name */
export function trackFrame(input: FrameInput, config: Sam2Config, model: ModelPart): TrackedFrame {
  const answer = answerFrame(input, config, model);
  const features = frameMemory(input, answer, config, model);
  return { ...answer, memory: { features, pointer: answer.pointer } };
}

/** The same for objects that remember different frames; the mask that is remembered is never binary. @param model the part without a name */
export function trackObjects(input: ObjectsInput, config: Sam2Config, model: ModelPart): TrackedFrame {
  const answer = answerObjects(input, config, model);
  const asked = { features: input.features, prompts: {}, training: false };
  const features = frameMemory(asked, answer, config, model);
  return { ...answer, memory: { features, pointer: answer.pointer } };
}

/** Of the same questions nothing but the answers. @param model the part without a name */
export function answerObjects(
  { objectCount, features, prompts, remembered }: ObjectsInput,
  config: Sam2Config,
  model: ModelPart,
): FrameAnswer {
  const embedding =
    remembered === null
      ? withoutMemory(features.embedding, model)
      : attended(
          features.embedding,
          memoryTokensOfEach(remembered, objectCount, config, model),
          config,
          model,
        );
  const { points, earlierMask: mask, maskPresence } = prompts;
  const given = { points, ...(mask && { mask }), ...(maskPresence && { maskPresence }) };
  const asked = { ...given, several: false, training: false };
  return askDecoder({ ...features, embedding }, asked, config, model);
}

function answerFrame(input: FrameInput, config: Sam2Config, model: ModelPart): FrameAnswer {
  const { prompts, features } = input;
  if (prompts.mask && config.tracking.maskInputIsOutput)
    return givenAnswer(features, prompts.mask, config, model);
  const embedding = input.isFirst
    ? withoutMemory(features.embedding, model)
    : withMemory(input, config, model);
  const pointCount = prompts.points?.pointCount ?? 0;
  const several = choosesAmongSeveral(pointCount, input.isFirst, config);
  const mask = prompts.earlierMask ?? prompts.mask;
  const { points } = prompts;
  const asked = { ...(points && { points }), ...(mask && { mask }), several, training: input.training };
  return askDecoder({ ...features, embedding }, asked, config, model);
}

/** The embedding of a frame that remembers nothing. */
export function withoutMemory(embedding: tf.Tensor4D, model: ModelPart): tf.Tensor4D {
  const nothing = model.tensor("no_mem_embed");
  return tf.add(embedding, tf.reshape(nothing, [1, 1, 1, nothing.size]));
}

function choosesAmongSeveral(pointCount: number, isFirst: boolean, { tracking }: Sam2Config): boolean {
  const { multimask } = tracking;
  if (!multimask || !(isFirst || multimask.whileTracking)) return false;
  return multimask.pointCountMin <= pointCount && pointCount <= multimask.pointCountMax;
}

function withMemory(
  { features, bank, ...input }: FrameInput,
  config: Sam2Config,
  model: ModelPart,
): tf.Tensor4D {
  const selection = selectedMemories(input, bank, config);
  return attended(features.embedding, memoryTokens(bank, selection, config, model), config, model);
}

function attended(
  image: tf.Tensor4D,
  memory: MemoryTokens,
  config: Sam2Config,
  model: ModelPart,
): tf.Tensor4D {
  const objects = memory.tokens.shape[0];
  const [, height, width, channels] = image.shape;
  const { positionTemperature: temperature } = config.neck;
  const sines = sineImagePositions({ height, width, channels, temperature });
  const embedding = tf.broadcastTo(image, [objects, height, width, channels]) as tf.Tensor4D; // Four axes.
  const part = model.under("memory_attention");
  part.observe(memory.tokens, "memory");
  part.observe(memory.positions, "memory_pos");
  part.observe(tf.scalar(memory.pointerTokenCount, "int32"), "num_obj_ptr_tokens");
  const positions = tf.tensor3d(sines, [1, height * width, channels]);
  return attendToMemory({ embedding, positions, memory }, config, part);
}

function selectedMemories(
  input: Omit<Remembering, "conditioning" | "tracked">,
  bank: MemoryBank,
  { tracking }: Sam2Config,
): MemorySelection {
  const frames = { conditioning: [...bank.conditioning.keys()], tracked: [...bank.tracked.keys()] };
  assert(frames.conditioning.length > 0, "a frame without a prompt needs one that has a memory");
  return selectMemories({ ...input, ...frames }, tracking);
}

type Asked = {
  readonly points?: PointPrompts | PointTensors;
  readonly mask?: tf.Tensor4D;
  readonly maskPresence?: tf.Tensor4D;
  readonly several: boolean;
  readonly training: boolean;
};

function askDecoder(
  features: ImageFeatures,
  asked: Asked,
  config: Sam2Config,
  model: ModelPart,
): FrameAnswer {
  const { several, training, mask, maskPresence } = asked;
  const objects = mask?.shape[0] ?? features.embedding.shape[0];
  const points = asked.points ?? noPoints(objects);
  const side = 4 * embeddingSize(config);
  const masks: { masks: tf.Tensor4D } | undefined = mask && {
    masks: tf.reshape(resized(mask, side, "bilinear-antialias"), [objects, side, side, 1]),
  };
  const encoder = model.under("sam_prompt_encoder");
  const prompts = encodePrompts({ points, ...masks, ...(maskPresence && { maskPresence }) }, config, encoder);
  const positions = imagePositions(config, encoder);
  const decoded = decodeMasks({ features, prompts, positions }, config, model.under("sam_mask_decoder"));
  const rule = training ? null : config.maskDecoder.dynamicMultimask;
  const chosen = several ? severalMasks(decoded, config.maskDecoder) : singleMask(decoded, rule);
  const present = tf.step(decoded.objectScores);
  const visible = { ...chosen, masks: hideAbsent(chosen.masks, present, config) };
  const best = several ? bestMask(visible) : visible;
  const highMasks = resized(best.masks, config.imageSize, "bilinear");
  return {
    lowMasks: best.masks,
    highMasks,
    bareMasks: several ? bestMask(chosen).masks : chosen.masks,
    candidates: several ? resized(visible.masks, config.imageSize, "bilinear") : highMasks,
    ious: visible.ious,
    objectScores: decoded.objectScores,
    pointer: objectPointer(best.tokens, presence(decoded.objectScores, config), config, model),
  };
}

/** @param present [B, 1], 0 or 1 */
function hideAbsent(masks: tf.Tensor4D, present: tf.Tensor, { maskDecoder }: Sam2Config): tf.Tensor4D {
  if (!maskDecoder.objectScore) return masks;
  const weight = tf.reshape(present, [present.size, 1, 1, 1]);
  return tf.add(tf.mul(masks, weight), tf.mul(tf.sub(1, weight), ABSENT_LOGIT));
}

/** [B, 1]: how far the object counts as there. */
function presence(scores: tf.Tensor2D, { tracking }: Sam2Config): tf.Tensor2D {
  return tracking.pointers?.softAbsence ? tf.sigmoid(scores) : tf.step(scores);
}

/** The first token becomes the pointer; an object that is not there has another one. */
function objectPointer(
  tokens: tf.Tensor3D,
  present: tf.Tensor2D,
  { tracking, maskDecoder }: Sam2Config,
  model: ModelPart,
): tf.Tensor2D {
  const { pointers } = tracking;
  const [batch, , channels] = tokens.shape;
  const token: tf.Tensor2D = tf.reshape(tf.slice(tokens, [0, 0, 0], [batch, 1, channels]), [batch, channels]);
  if (!pointers) return token;
  const layers = [0, 1, 2].map((layer) => `obj_ptr_proj.layers.${layer}`);
  const pointer = pointers.mlp
    ? multilayerPerceptron(
        token,
        layers.map((name) => model.linear(name)),
      )
    : linear(token, model.linear("obj_ptr_proj"));
  return maskDecoder.objectScore ? pointerIfPresent(pointer, present, pointers.absent, model) : pointer;
}

function pointerIfPresent(
  pointer: tf.Tensor2D,
  present: tf.Tensor2D,
  absent: "added" | "replaced",
  model: ModelPart,
): tf.Tensor2D {
  const kept = absent === "replaced" ? tf.mul(pointer, present) : pointer;
  return tf.add(kept, tf.mul(tf.sub(1, present), model.tensor("no_obj_ptr")));
}

/** A mask that needs no decoder; only its pointer does. */
function givenAnswer(
  features: ImageFeatures,
  mask: tf.Tensor4D,
  config: Sam2Config,
  model: ModelPart,
): FrameAnswer {
  const [batch, , size] = mask.shape;
  const highMasks = tf.add(tf.mul(mask, GIVEN_SCALE), GIVEN_BIAS) as tf.Tensor4D; // The shape of the mask.
  const present = tf.step(tf.max(tf.reshape(mask, [batch, -1]), 1, true)) as tf.Tensor2D; // One number for each object.
  const lowMasks = resized(highMasks, Math.floor(size / 4), "bilinear-antialias");
  return {
    lowMasks,
    highMasks,
    bareMasks: lowMasks,
    candidates: highMasks,
    ious: tf.ones([batch, 1]),
    objectScores: tf.add(tf.mul(present, GIVEN_SCALE), GIVEN_BIAS),
    pointer: config.tracking.pointers
      ? givenPointer(features, mask, present, config, model)
      : tf.zeros([batch, config.neck.channels]),
  };
}

function givenPointer(
  features: ImageFeatures,
  mask: tf.Tensor4D,
  present: tf.Tensor2D,
  config: Sam2Config,
  model: ModelPart,
): tf.Tensor2D {
  const [batch, , size] = mask.shape;
  const image: tf.Tensor4D = tf.reshape(mask, [batch, size, size, 1]);
  const small = biasedConv2d(image, model.conv("mask_downsample"), { stride: 4 });
  const quarter: tf.Tensor4D = tf.reshape(small, [batch, 1, small.shape[1], small.shape[2]]);
  const { pointer } = askDecoder(features, { mask: quarter, several: false, training: false }, config, model);
  if (!config.maskDecoder.objectScore) return pointer;
  return pointerIfPresent(pointer, present, config.tracking.pointers?.absent ?? "added", model);
}

/** [B, H, W, M] */
function frameMemory(
  { features, prompts, training }: Pick<FrameInput, "features" | "prompts" | "training">,
  { highMasks, objectScores }: FrameAnswer,
  config: Sam2Config,
  model: ModelPart,
): tf.Tensor4D {
  const { maskScale, maskBias, binarizePromptedMasks, noObjectEmbedding } = config.tracking;
  const binary = binarizePromptedMasks && prompts.points !== undefined && !training;
  const shares = binary ? tf.step(highMasks) : tf.sigmoid(highMasks);
  const [batch, , size] = highMasks.shape;
  const masks: tf.Tensor4D = tf.reshape(tf.add(tf.mul(shares, maskScale), maskBias), [batch, size, size, 1]);
  const memory = encodeMemory(features.embedding, masks, config, model.under("memory_encoder"));
  if (!noObjectEmbedding) return memory;
  const absent = tf.reshape(tf.sub(1, tf.step(objectScores)), [batch, 1, 1, 1]);
  return tf.add(memory, tf.mul(absent, model.tensor("no_obj_embed_spatial")));
}

function resized(masks: tf.Tensor4D, side: number, kind: "bilinear" | "bilinear-antialias"): tf.Tensor4D {
  const [batch, count, height, width] = masks.shape;
  const maps: tf.Tensor3D = tf.reshape(masks, [batch * count, height, width]);
  return tf.reshape(resizeMaps(maps, [side, side], kind), [batch, count, side, side]);
}
