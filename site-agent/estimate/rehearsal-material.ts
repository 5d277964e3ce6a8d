// The images and answers of a rehearsal, drawn and of no patient: every organ of the plan is a strip in the middle of
// every slice, and the model answers just that. So a clip asks for as many organs and slices as the plan lets it, which
// is the most that a step can cost.

import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { TrainingMaterial } from "../recipes/recipe.ts";
import type { TrainingSlice } from "../training/training-slice.ts";
import type { TensorForm } from "./kernel-call.ts";

/** Slices of the drawn case: more than any clip has. */
const SLICE_COUNT = 40;

export function rehearsalCase({
  preprocessing,
  labels,
}: Pick<StudyPlan, "preprocessing" | "labels">): TrainingSlice[] {
  const { height, width } = preprocessing.patch;
  const channels = 1 + 2 * preprocessing.contextSlices;
  const ids = labels.map(({ id }) => id);
  const drawn = Uint8Array.from({ length: height * width }, (_, pixel) => {
    const place = stripAt(Math.floor(pixel / width), pixel % width, { height, width, count: ids.length });
    return place < 0 ? 0 : (ids[place] ?? 0);
  });
  const image = new Float32Array(height * width * channels).fill(1);
  const slice = { image, labels: drawn, height, width, channels, contoured: ids };
  // Objects of their own: a clip is found by its slices' identity.
  return Array.from({ length: SLICE_COUNT }, () => ({ ...slice }));
}

export function rehearsalMaterial(plan: StudyPlan, view: TrainingMaterial["view"]): TrainingMaterial {
  return {
    cases: [rehearsalCase(plan)],
    labels: [0, ...plan.labels.map(({ id }) => id)],
    batchSize: plan.training.batchSize,
    seed: plan.training.seed,
    view,
  };
}

/** Class scores have their strip; every other image is positive in its middle; numbers are 1. */
export function drawnAnswer({ shape }: TensorForm): Float32Array {
  const count = shape.reduce((product, size) => product * size, 1);
  const values = new Float32Array(count);
  if (shape.length !== 4) return values.fill(1);
  const [, second = 1, third = 1, fourth = 1] = shape;
  // Masks are [B, 1, H, W], classes [B, H, W, K].
  const isMask = second === 1 && third > 1;
  const [height, width, classes] = isMask ? [third, fourth, 1] : [second, third, fourth];
  for (let index = 0; index < count; index += 1) {
    const pixel = Math.floor(index / classes);
    const row = Math.floor(pixel / width) % height;
    const strip = stripAt(row, pixel % width, { height, width, count: isMask ? 1 : classes - 1 });
    const isIn = isMask ? strip >= 0 : strip + 1 === index % classes;
    values[index] = isIn ? 1 : isMask ? -1 : 0;
  }
  return values;
}

type Strips = { readonly height: number; readonly width: number; readonly count: number };

/** Which of the strips that share the middle of an image a pixel lies in; -1 outside of it. */
function stripAt(row: number, column: number, { height, width, count }: Strips): number {
  const [top, left] = [Math.floor(height / 4), Math.floor(width / 4)];
  const isInside = row >= top && row < height - top && column >= left && column < width - left;
  return isInside ? Math.min(count - 1, Math.floor(((column - left) * count) / (width - 2 * left))) : -1;
}
