// Questions as batches of tensors: everything that differs between two batches is a tensor with a name, so that what is
// computed with them can be compiled. Where operations are carried out one by one, a batch has exactly what its questions
// need. A compiled computation is one for every shape: there masks that are missing, memories and whole questions are
// filled up, and tensors say what does not count.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { chunks } from "@consilium/shared/base/chunks.ts";
import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { joinedRows } from "../../backend/joined-rows.ts";
import { tf } from "../../backend/tensors.ts";
import type { ImageFeatures } from "../../models/sam2/image-encoder.ts";
import { type RememberedTensors, rememberedTensors } from "../../models/sam2/memory-of-each.ts";
import { pointTensors } from "../../models/sam2/prompt-encoder.ts";
import type { ObjectsInput } from "../../models/sam2/track-frame.ts";
import type { SliceSize } from "../../prompts/slice-size.ts";
import { type Asking, pointCountOf, pointPrompts, rememberedFrames } from "./frame-question.ts";

export type SliceQuestion = Asking & {
  /** Of the slice that is asked about. */
  readonly features: ImageFeatures;
};

export type Batching = {
  /** Questions of a batch, at most. */
  readonly countMax: number;
  /**
   * Every batch has so many, and what a mask or a memory lacks is filled up: memories to a multiple of so many frames. Null
   * fills up nothing.
   */
  readonly framesStep: number | null;
};

/** Questions that can be asked at once, so many at most. */
export function batchesOf<Asked extends Asking>(asked: readonly Asked[], batching: Batching): Asked[][] {
  const forms = new Map<string, Asked[]>();
  for (const question of asked) {
    const form = formOf(question, batching);
    forms.set(form, [...(forms.get(form) ?? []), question]);
  }
  return [...forms.values()].flatMap((alike) => chunks(alike, batching.countMax));
}

function formOf(question: Asking, { framesStep }: Batching): string {
  const points = pointCountOf(question);
  const frames = question.memories.length;
  if (framesStep !== null) return `${points} points, ${filledFrames(frames, framesStep)} memories`;
  return `${points} points, ${question.prompt?.maskLogits ? "a mask" : "no mask"}, ${frames} memories`;
}

function filledFrames(frames: number, step: number): number {
  return Math.ceil(frames / step) * step;
}

export type BatchOptions = {
  readonly config: Sam2Config;
  readonly maskGrid: SliceSize;
  /** Slices of the clip. */
  readonly sliceCount: number;
  readonly batching: Batching;
};

/** @param asked of one form */
export function questionTensors(asked: readonly SliceQuestion[], options: BatchOptions): tf.NamedTensorMap {
  const { batching, config } = options;
  const questions = batching.framesStep === null ? asked : filledUp(asked, batching.countMax);
  const { places, kinds } = pointTensors(pointPrompts(questions), config);
  return {
    ...joinedRows(questions.map(({ features }) => namedFeatures(features))),
    ...{ places, kinds },
    ...maskTensors(questions, options),
    ...memoryTensors(questions, options),
  };
}

/** The last one as often as is missing. */
export function filledUp<Item>(items: readonly Item[], count: number): Item[] {
  const last = expectDefined(items.at(-1), "an item");
  return Array.from({ length: count }, (_, index) => items[index] ?? last);
}

/** As `namedFeatures` gives them, at most. */
export const FEATURE_NAMES = ["embedding", "fine 0", "fine 1"];

export function namedFeatures({ embedding, fine }: ImageFeatures): tf.NamedTensorMap {
  return { embedding, ...(fine && { "fine 0": fine[0], "fine 1": fine[1] }) };
}

export function featuresOf({
  embedding,
  "fine 0": first,
  "fine 1": second,
}: tf.NamedTensorMap): ImageFeatures {
  const four = (tensor: tf.Tensor | undefined) => expectDefined(tensor, "features") as tf.Tensor4D; // As named above.
  return { embedding: four(embedding), fine: first && [four(first), four(second)] };
}

function maskTensors(asked: readonly Asking[], { maskGrid, batching }: BatchOptions): tf.NamedTensorMap {
  const { height, width } = maskGrid;
  const masks = asked.map(({ prompt }) => prompt?.maskLogits ?? null);
  if (batching.framesStep === null && masks.every((mask) => mask === null)) return {};
  const grids = new Float32Array(masks.length * height * width);
  masks.forEach((mask, index) => {
    if (mask) grids.set(mask, index * height * width);
  });
  const presence = masks.map((mask) => (mask ? 1 : 0));
  return {
    "earlier masks": tf.tensor4d(grids, [masks.length, 1, height, width]),
    ...(batching.framesStep !== null && { "mask presence": tf.tensor4d(presence, [masks.length, 1, 1, 1]) }),
  };
}

function memoryTensors(
  asked: readonly Asking[],
  { config, sliceCount, batching }: BatchOptions,
): tf.NamedTensorMap {
  const count = asked[0]?.memories.length ?? 0;
  if (count === 0) return {};
  const each = asked.map(({ memories }) => rememberedFrames(memories, sliceCount, config));
  const { framesStep } = batching;
  const filled = framesStep === null ? undefined : filledFrames(count, framesStep);
  const { features, times, pointers, hidden } = rememberedTensors(each, config, filled);
  return {
    ...{ memories: features, "memory times": times },
    ...(pointers && { pointers: pointers.tokens, "pointer distances": pointers.distances }),
    ...(hidden && { hidden }),
  };
}

/** Of what `questionTensors` made. */
export function questionCount({ places }: tf.NamedTensorMap): number {
  return expectDefined(places, "places").shape[0] ?? 0;
}

/** What `questionTensors` made, for SAM 2. */
export function objectsInput(tensors: tf.NamedTensorMap): ObjectsInput {
  const { "earlier masks": earlierMask, "mask presence": maskPresence } = tensors;
  const places = expectDefined(tensors["places"], "places") as tf.Tensor3D; // As they were made above, here and below.
  const kinds = expectDefined(tensors["kinds"], "kinds") as tf.Tensor3D;
  return {
    objectCount: questionCount(tensors),
    features: featuresOf(tensors),
    prompts: {
      points: { places, kinds },
      ...(earlierMask && { earlierMask: earlierMask as tf.Tensor4D }),
      ...(maskPresence && { maskPresence: maskPresence as tf.Tensor4D }),
    },
    remembered: rememberedOf(tensors),
  };
}

function rememberedOf(tensors: tf.NamedTensorMap): RememberedTensors | null {
  const { memories, "memory times": times, pointers, "pointer distances": distances, hidden } = tensors;
  if (!memories) return null;
  return {
    features: memories as tf.Tensor4D, // As they were made above, here and below.
    times: expectDefined(times, "times") as tf.Tensor2D,
    ...(pointers && {
      pointers: {
        tokens: pointers as tf.Tensor2D,
        distances: expectDefined(distances, "distances") as tf.Tensor2D,
      },
    }),
    ...(hidden && { hidden: hidden as tf.Tensor3D }),
  };
}
