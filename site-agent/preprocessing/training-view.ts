// What training sees of a prepared slice each time it is drawn: a patch of the plan's size, changed at random where the
// study asks for it. With windows, this is also what gives all slices one size.

import type { Prng } from "@consilium/shared/base/prng.ts";
import type { PreprocessingPlan } from "@consilium/shared/model/preprocessing-plan.ts";
import type { MirrorAxis } from "./augment-geometry.ts";
import { augment, NNUNET_AUGMENTATION } from "./augmentation.ts";
import { samplePatch } from "./patch-sampling.ts";
import type { Slice } from "./prepare.ts";

/** nnU-Net's share of patches that must show something contoured. */
const FOREGROUND_SHARE = 1 / 3;

export interface TrainingViewOptions {
  readonly preprocessing: PreprocessingPlan;
  readonly augmentation: "none" | "nnunet";
  readonly mirrorAxes: readonly MirrorAxis[];
}

/** @returns a function that never changes the slice it is given. */
export function trainingView(options: TrainingViewOptions): (slice: Slice, prng: Prng) => Slice {
  const { patch } = options.preprocessing;
  return (slice, prng) => {
    const view = samplePatch(slice, { ...patch, foregroundShare: FOREGROUND_SHARE }, prng);
    if (options.augmentation === "none") return view;
    return augment(view, { record: NNUNET_AUGMENTATION, mirrorAxes: options.mirrorAxes }, prng);
  };
}
