// RFMedSAM 2's answer for a volume: the prompter, both stages clip by clip, the organs merged, and overlapping clips
// blended.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { mergedClip, refineClip } from "../../refinement/refine-clip.ts";
import { type StitchedSlice, Stitcher } from "../../refinement/stitching.ts";
import type { TrainingSlice } from "../../training/training-slice.ts";
import type { PredictionView, StackPredictor } from "../recipe.ts";
import { slicePredictor } from "../slice-model.ts";
import { clipWindows, type RefinedWindow } from "./clip-windows.ts";
import type { Rfmedsam2 } from "./model.ts";
import { refinementPlanOf } from "./refinement-plan-of.ts";

export function rfmedsam2Predictor(model: Rfmedsam2, view: PredictionView): StackPredictor {
  return async function* predict(slices, wanted) {
    const { height, width } = expectDefined(slices[0], "a volume has a slice");
    const classCount = view.labels.length;
    const stitcher = new Stitcher({ depth: slices.length, height, width }, classCount);
    const isWanted = new Set(wanted);
    for await (const one of windowsOf(model, slices, view)) {
      const finished = stitcher.add(one.window, await answer(model, one));
      yield* wantedShares(finished, isWanted, classCount);
    }
    yield* wantedShares(stitcher.finish(), isWanted, classCount);
  };
}

/** The clips of a volume that the recipe's record asks for. */
export function windowsOf(
  model: Rfmedsam2,
  slices: readonly TrainingSlice[],
  view: PredictionView,
): AsyncGenerator<RefinedWindow> {
  return clipWindows(model, slices, {
    prompter: slicePredictor(model.prompting, view),
    classCount: view.labels.length,
    clip: { depth: model.config.refinement.clipSlices, ...view.plan.patch },
  });
}

/** Merged logits [classes, depth, height, width] of the stage that the record names. */
async function answer(model: Rfmedsam2, { output, port }: RefinedWindow): Promise<Float32Array> {
  const { config, sizes } = model;
  const refined = await refineClip(output, port, refinementPlanOf(model));
  const results = config.answer === "stage-1" ? refined.stageOne : refined.stageTwo;
  const merging = { maskGrid: sizes.maskGrid, arbiter: "prompter", acceptance: config.refinement } as const;
  return mergedClip(results, output, merging).logits;
}

function* wantedShares(
  finished: readonly StitchedSlice[],
  wanted: ReadonlySet<number>,
  classCount: number,
): Generator<Float32Array> {
  for (const { slice, logits } of finished) if (wanted.has(slice)) yield classShares(logits, classCount);
}

/** Softmax over classes. @param logits [classes, pixels] @returns [pixels, classes] */
export function classShares(logits: Float32Array, classCount: number): Float32Array {
  const pixels = logits.length / classCount;
  const shares = new Float32Array(logits.length);
  for (let pixel = 0; pixel < pixels; pixel += 1) {
    let most = Number.NEGATIVE_INFINITY;
    for (let index = 0; index < classCount; index += 1)
      most = Math.max(most, logits[index * pixels + pixel] ?? 0);
    let sum = 0;
    for (let index = 0; index < classCount; index += 1) {
      const share = Math.exp((logits[index * pixels + pixel] ?? 0) - most);
      shares[pixel * classCount + index] = share;
      sum += share;
    }
    for (let index = 0; index < classCount; index += 1) {
      const at = pixel * classCount + index;
      shares[at] = (shares[at] ?? 0) / sum;
    }
  }
  return shares;
}
