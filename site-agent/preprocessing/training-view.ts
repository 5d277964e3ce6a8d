// What training sees of prepared slices each time they are drawn: a patch of the plan's size, changed at random where the
// study asks for it, and slices of one clip in the same way. With windows, this is also what gives all slices one size.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import type { PreprocessingPlan } from "@consilium/shared/model/preprocessing-plan.ts";
import type { MirrorAxis } from "./augment-geometry.ts";
import { augment, NNUNET_AUGMENTATION } from "./augmentation.ts";
import { cutPatch, samplePatch, samplePlace } from "./patch-sampling.ts";
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
  const wanted = { ...options.preprocessing.patch, foregroundShare: FOREGROUND_SHARE };
  return (slice, prng) => changed(samplePatch(slice, wanted, prng), options, prng);
}

/** The same for slices that lie one after another, all changed in the same way. */
export function clipView(options: TrainingViewOptions): (slices: readonly Slice[], prng: Prng) => Slice[] {
  const wanted = { ...options.preprocessing.patch, foregroundShare: FOREGROUND_SHARE };
  const alone = trainingView(options);
  return (slices, prng) => {
    if (slices.length <= 1) return slices.map((slice) => alone(slice, prng));
    const place = samplePlace(together(slices), wanted, prng);
    const seed = prng.uint32();
    // A generator for each slice that gives them all the same numbers.
    return slices.map((slice) => changed(cutPatch(slice, place), options, new Prng(seed)));
  };
}

function changed(view: Slice, { augmentation, mirrorAxes }: TrainingViewOptions, prng: Prng): Slice {
  if (augmentation === "none") return view;
  return augment(view, { record: NNUNET_AUGMENTATION, mirrorAxes }, prng);
}

/** Every pixel that is labelled in any of the slices. */
function together(slices: readonly Slice[]): Slice {
  const first = expectDefined(slices[0], "a clip has a slice");
  const labels = first.labels.map((_, pixel) => Number(slices.some((slice) => slice.labels[pixel] !== 0)));
  return { ...first, labels };
}
