// What a step of pretraining computes: the loss of prompts on single slices, corrections included, or of a clip whose
// first slice is prompted and whose other slices have the memory, some of them a prompt as well. Losses are SAM 2's own.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import type { Prng } from "@consilium/shared/base/prng.ts";
import { tf } from "../backend/tensors.ts";
import type { ImageFeatures } from "../models/sam2/image-encoder.ts";
import { type MaskLossSettings, maskLosses, OFFICIAL_MASK_LOSS } from "../models/sam2/mask-losses.ts";
import type { FrameMemory } from "../models/sam2/memory-bank.ts";
import type { Sam2 } from "../models/sam2/sam2.ts";
import type { FramePrompts } from "../models/sam2/track-frame.ts";
import { coveredShares } from "../prompts/covered-shares.ts";
import type { DrawnClip, DrawnSlices } from "./drawn-examples.ts";
import { correctedPrompts, drawPrompts, type PromptKind } from "./example-prompts.ts";
import { askAboutObjects, featuresOf, maskIou, masksOf, rowsOf } from "./promptable-answers.ts";
import { imageTensor, joined, maskTensor } from "./slice-images.ts";

/**
 * Dice and cross-entropy, with the minimum over several masks as in SAM 2. Its own focal and dice, 20 to 1 with three
 * quarters of the weight on the background, suit weights that are trained already: from nothing they end at empty masks.
 */
export const LATE_LOSS: MaskLossSettings = {
  ...OFFICIAL_MASK_LOSS,
  weights: { mask: 1, dice: 1, iou: 0.25, object: 0.25 },
  focalAlpha: -1,
  focalGamma: 0,
};

/** Objects are a few hundredths of a slice: at first their pixels weigh four times as much as the others. */
export const EARLY_LOSS: MaskLossSettings = {
  ...LATE_LOSS,
  weights: { ...LATE_LOSS.weights, mask: 3 },
  focalAlpha: 0.8,
};

export type StepLoss = {
  readonly total: tf.Scalar;
  /** Mean over the objects of the last answer, or of the slices without a prompt; NaN where all have one. */
  readonly meanIou: number;
};

export type SlicePrompting = {
  readonly kind: PromptKind;
  /** Further answers after the first, each with a correction. */
  readonly correctionCount: number;
};

export type StepOptions = { readonly settings: MaskLossSettings; readonly prng: Prng };

export function slicesLoss(
  model: Sam2,
  { images, owners, masks }: DrawnSlices,
  { kind, correctionCount, settings, prng }: SlicePrompting & StepOptions,
): StepLoss {
  const side = model.config.imageSize;
  const features = featuresOf(model.encode(imageTensor(images, side)), owners);
  const truth = drawnShares(masks, side);
  let prompts = drawPrompts(kind, masks, { side, prng });
  let answer = askAboutObjects(model, features, prompts);
  const losses = [maskLosses(answer, truth, settings).total];
  for (let round = 0; round < correctionCount; round += 1) {
    const lowLogits = rowsOf(answer.low);
    const predicted = masksOf(answer.low, side);
    prompts = correctedPrompts(prompts, { truth: masks, predicted }, { lowLogits, side, prng });
    answer = askAboutObjects(model, features, prompts);
    losses.push(maskLosses(answer, truth, settings).total);
  }
  return { total: meanLoss(losses), meanIou: meanIou(masksOf(answer.low, side), masks) };
}

/**
 * What each of the answer's pixels covers of the objects: the loss is taken where the decoder draws, which costs a
 * sixteenth of what it costs on the slice and says as much. @param masks 0 and 1, each [S, S] @returns [B, S / 4, S / 4]
 */
function drawnShares(masks: readonly Uint8Array[], side: number): tf.Tensor3D {
  const grid = side / 4;
  const [size, cells] = [
    { height: side, width: side },
    { height: grid, width: grid },
  ];
  const shares = masks.map((mask) => coveredShares(mask, size, cells));
  return tf.tensor3d(joined(shares), [masks.length, grid, grid]);
}

/** How the first slice of a clip is prompted. */
export type ClipPromptKind = PromptKind | "mask";

export type ClipPrompting = {
  readonly kind: ClipPromptKind;
  /**
   * Shares of later slices with a prompt, and of their kinds. A model that never saw both would follow the memory where
   * a prompt says better.
   */
  readonly again: { readonly share: number; readonly pointShare: number; readonly maskShare: number };
};

export function clipLoss(
  model: Sam2,
  { images, masks }: DrawnClip,
  { kind, again, settings, prng }: ClipPrompting & StepOptions,
): StepLoss {
  const side = model.config.imageSize;
  const encoded = model.encode(imageTensor(images, side));
  const bank = { conditioning: new Map<number, FrameMemory>(), tracked: new Map<number, FrameMemory>() };
  const frameCount = images.length;
  const losses: tf.Scalar[] = [];
  const overlaps: number[] = [];
  for (const [frame, truth] of masks.entries()) {
    const isFirst = frame === 0;
    const features = frameFeatures(encoded, frame, truth.length);
    const asked = isFirst ? kind : kindAgain(truth, again, prng);
    const prompts = asked ? firstPrompts(asked, truth, { side, prng }) : {};
    const at = { frame, frameCount, reverse: false, training: true, isFirst, features, bank };
    const answer = model.track({ ...at, prompts });
    (isFirst ? bank.conditioning : bank.tracked).set(frame, answer.memory);
    if (!(isFirst && kind === "mask"))
      losses.push(maskLosses(answer, maskTensor(truth, side), settings).total);
    if (!asked) overlaps.push(meanIou(masksOf(answer.lowMasks, side), truth));
  }
  return { total: meanLoss(losses), meanIou: mean(overlaps) };
}

/** How a later slice is prompted; null for most, and where an object is no longer seen. */
function kindAgain(
  truth: readonly Uint8Array[],
  { share, pointShare, maskShare }: ClipPrompting["again"],
  prng: Prng,
): PromptKind | null {
  const [isAsked, draw] = [prng.chance(share), prng.next()];
  if (!isAsked || !truth.every((mask) => mask.includes(1))) return null;
  if (draw < pointShare) return "point";
  return draw < pointShare + maskShare ? "box-and-mask" : "box";
}

/** One image of several, for every object: the memory differs between objects. */
export function frameFeatures(features: ImageFeatures, frame: number, objectCount: number): ImageFeatures {
  return featuresOf(
    features,
    Array.from({ length: objectCount }, () => frame),
  );
}

export function firstPrompts(
  kind: ClipPromptKind,
  truth: readonly Uint8Array[],
  { side, prng }: { readonly side: number; readonly prng: Prng },
): FramePrompts {
  if (kind === "mask") return { mask: tf.tensor4d(joined(truth), [truth.length, 1, side, side]) };
  const { points, masks } = drawPrompts(kind, truth, { side, prng });
  const grid = side / 4;
  return {
    points,
    ...(masks && { earlierMask: tf.tensor4d(joined(masks), [masks.length, 1, grid, grid]) }),
  };
}

function meanLoss(losses: readonly tf.Scalar[]): tf.Scalar {
  assert(losses.length > 0, "a step has a loss");
  return tf.div(tf.addN([...losses]), losses.length);
}

function meanIou(predicted: readonly Uint8Array[], truth: readonly Uint8Array[]): number {
  return mean(truth.map((mask, object) => maskIou(expectDefined(predicted[object], "an answer"), mask)));
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
