// How good a promptable model is on drawn objects that no step has seen: from boxes with jitter, after corrections, from
// points, and from the memory alone. Beside it stands what the same boxes say without any model. Drawn objects are no
// organs: the figures compare models, they promise nothing about patients.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { tf } from "../backend/tensors.ts";
import type { ImageFeatures } from "../models/sam2/image-encoder.ts";
import type { FrameMemory } from "../models/sam2/memory-bank.ts";
import type { Sam2 } from "../models/sam2/sam2.ts";
import { filledBox, type PixelBox, tightBox } from "../prompts/pixel-box.ts";
import { type DrawnClip, type DrawnSlices, drawClip, drawSlices } from "./drawn-examples.ts";
import { correctedPrompts, drawPrompts, type PromptKind } from "./example-prompts.ts";
import { firstPrompts, frameFeatures, mean } from "./pretraining-steps.ts";
import { askAboutObjects, featuresOf, maskIou, masksOf, rowsOf } from "./promptable-answers.ts";
import { imageTensor } from "./slice-images.ts";

export type EvaluationPlan = {
  readonly seed: number;
  /** Volumes of which one slice is looked at, and volumes of which a clip is. */
  readonly sliceCount: number;
  readonly clipCount: number;
  readonly objectCountMax: number;
  readonly areaMinPx: number;
  readonly correctionCount: number;
  readonly clipLength: number;
};

export const EVALUATION_PLAN: EvaluationPlan = {
  seed: 20_260_101,
  sliceCount: 60,
  clipCount: 20,
  objectCountMax: 6,
  areaMinPx: 256,
  correctionCount: 3,
  clipLength: 4,
};

/** Mean IoU over objects. */
export type BoxScores = {
  readonly objectCount: number;
  /** Of the smallest box round each object, and of the box with jitter that the model is given. */
  readonly tightBox: number;
  readonly jitteredBox: number;
};

export type PromptScores = {
  /** From a box or a point alone and after each correction: the first number has one prompt, the next one two. */
  readonly box: readonly number[];
  readonly point: readonly number[];
  readonly boxAndMask: readonly number[];
  /** Slices one, two, ... after a slice with a box, which have no prompt themselves. */
  readonly memory: readonly number[];
};

/** What the examples of a plan are, and what filled boxes score on them. */
export function evaluateBoxes(plan: EvaluationPlan, side: number): BoxScores {
  const size = { height: side, width: side };
  const pairs = drawnSlices(plan, side).flatMap(({ masks }, index) => {
    const { points } = drawPrompts("box", masks, { side, prng: promptPrng(plan, "box", index) });
    return masks.map((mask, object) => {
      const at = (place: number): number => expectDefined(points.coordinates[4 * object + place], "corner");
      const jittered: PixelBox = { x1: at(0), y1: at(1), x2: at(2), y2: at(3) };
      const tight = expectDefined(tightBox(mask, size) ?? undefined, "a pixel");
      return [maskIou(filledBox(tight, size), mask), maskIou(filledBox(jittered, size), mask)] as const;
    });
  });
  return {
    objectCount: pairs.length,
    tightBox: mean(pairs.map(([tight]) => tight)),
    jitteredBox: mean(pairs.map(([, jittered]) => jittered)),
  };
}

export function evaluatePrompts(model: Sam2, plan: EvaluationPlan): PromptScores {
  const side = model.config.imageSize;
  const slices = drawnSlices(plan, side).map((slice, index) => slicesIous(model, slice, plan, index));
  const clips = Array.from({ length: plan.clipCount }, (_, index) => {
    const prng = Prng.labelled(plan.seed, `clip ${index}`);
    const examples = { ...plan, imageCount: plan.clipLength };
    return rememberedIous(model, drawClip(examples, side, prng), prng);
  });
  return {
    box: meanColumns(slices.flatMap((rows) => rows.box)),
    point: meanColumns(slices.flatMap((rows) => rows.point)),
    boxAndMask: meanColumns(slices.flatMap((rows) => rows.boxAndMask)),
    memory: Array.from({ length: plan.clipLength - 1 }, (_, later) =>
      mean(clips.flatMap((frames) => frames[later] ?? [])),
    ),
  };
}

type KindRows = Readonly<Record<"box" | "point" | "boxAndMask", number[][]>>;

/** One slice, encoded once and asked about with every kind of prompt. */
function slicesIous(model: Sam2, slice: DrawnSlices, plan: EvaluationPlan, index: number): KindRows {
  return tf.tidy(() => {
    const images = imageTensor(slice.images, model.config.imageSize);
    const features = featuresOf(model.encode(images), slice.owners);
    const rows = (kind: PromptKind): number[][] =>
      promptedIous(model, features, slice.masks, { kind, plan, prng: promptPrng(plan, kind, index) });
    return { box: rows("box"), point: rows("point"), boxAndMask: rows("box-and-mask") };
  });
}

/** One slice each: every volume with generators of its own. */
function drawnSlices(plan: EvaluationPlan, side: number): DrawnSlices[] {
  const examples = { ...plan, imageCount: 1 };
  return Array.from({ length: plan.sliceCount }, (_, index) =>
    drawSlices(examples, side, Prng.labelled(plan.seed, `slice ${index}`)),
  );
}

function promptPrng({ seed }: EvaluationPlan, kind: PromptKind, index: number): Prng {
  return Prng.labelled(seed, `${kind} ${index}`);
}

type Asking = { readonly kind: PromptKind; readonly plan: EvaluationPlan; readonly prng: Prng };

/** One row for every object: after the prompt, and after each correction. */
function promptedIous(
  model: Sam2,
  features: ImageFeatures,
  masks: readonly Uint8Array[],
  { kind, plan, prng }: Asking,
): number[][] {
  const side = model.config.imageSize;
  let prompts = drawPrompts(kind, masks, { side, prng });
  let answer = askAboutObjects(model, features, prompts);
  const rows = masks.map((): number[] => []);
  for (let corrections = 0; corrections <= plan.correctionCount; corrections += 1) {
    if (corrections > 0) answer = askAboutObjects(model, features, prompts);
    const predicted = masksOf(answer.low, side);
    for (const [object, mask] of masks.entries()) {
      rows[object]?.push(maskIou(expectDefined(predicted[object], "an answer"), mask));
    }
    const lowLogits = rowsOf(answer.low);
    prompts = correctedPrompts(prompts, { truth: masks, predicted }, { lowLogits, side, prng });
  }
  return rows;
}

/** For every slice after the first the objects that are still seen there. */
function rememberedIous(model: Sam2, { images, masks }: DrawnClip, prng: Prng): number[][] {
  const side = model.config.imageSize;
  return tf.tidy(() => {
    const encoded = model.encode(imageTensor(images, side));
    const bank = { conditioning: new Map<number, FrameMemory>(), tracked: new Map<number, FrameMemory>() };
    const ious: number[][] = [];
    for (const [frame, truth] of masks.entries()) {
      const isFirst = frame === 0;
      const features = frameFeatures(encoded, frame, truth.length);
      const prompts = isFirst ? firstPrompts("box", truth, { side, prng }) : {};
      const at = {
        frame,
        frameCount: images.length,
        reverse: false,
        training: false,
        isFirst,
        features,
        bank,
      };
      const answer = model.track({ ...at, prompts });
      (isFirst ? bank.conditioning : bank.tracked).set(frame, answer.memory);
      if (isFirst) continue;
      const predicted = masksOf(answer.lowMasks, side);
      ious.push(
        truth.flatMap((mask, object) =>
          mask.includes(1) ? [maskIou(expectDefined(predicted[object], "an answer"), mask)] : [],
        ),
      );
    }
    return ious;
  });
}

function meanColumns(rows: readonly (readonly number[])[]): number[] {
  const count = rows[0]?.length ?? 0;
  return Array.from({ length: count }, (_, column) =>
    mean(rows.map((row) => expectDefined(row[column], "a score"))),
  );
}
