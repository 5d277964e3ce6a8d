// One run of local training from given weights, the same for a round and for a site that trains alone: model, slices and
// seed in, the change of the trainable tensors out. It knows no coordinator and no file.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { applyDelta, subtract } from "../delta/delta.ts";
import type { CohortCase } from "../preprocessing/prepare-cohort.ts";
import { clipView } from "../preprocessing/training-view.ts";
import type { TrainingMaterial } from "../recipes/recipe.ts";
import { findRecipe } from "../recipes/registry.ts";
import { trainBatches } from "../training/train-locally.ts";
import type { WeightValues } from "./weights-file.ts";

export type TrainingRun = {
  readonly plan: StudyPlan;
  /** Every tensor of the model. */
  readonly base: WeightValues;
  readonly cases: readonly CohortCase[];
  readonly seed: number;
  readonly steps: number;
  /** Where this run lies in the learning-rate schedule. */
  readonly schedule: { readonly stepsBefore: number; readonly stepsInAll: number };
  readonly onStep: (step: number, loss: number) => void;
  readonly signal: AbortSignal;
  readonly onWarning?: TrainingMaterial["onWarning"];
};

export type TrainingOutcome = {
  /** Trained minus base, in manifest order. */
  readonly delta: ReadonlyMap<string, Float32Array>;
  /** The base with the delta applied. */
  readonly weights: WeightValues;
  readonly loss: { readonly first: number; readonly last: number };
};

/** @throws TrainingError, WeightsError, RecipeError, or the signal's reason */
export async function runTraining(run: TrainingRun): Promise<TrainingOutcome> {
  const { plan, base, cases, seed, steps, schedule, onStep, signal, onWarning } = run;
  const recipe = findRecipe(plan.recipe);
  const manifest = recipe.trainable(plan.recipe.config);
  const model = recipe.open(plan.recipe.config, base);
  try {
    const heard = onWarning && { onWarning };
    const objective = model.objective({
      cases: cases.map(({ prepared }) => prepared.slices),
      labels: [0, ...plan.labels.map(({ id }) => id)],
      batchSize: plan.training.batchSize,
      seed,
      view: clipView({ preprocessing: plan.preprocessing, ...plan.training }),
      ...heard,
    });
    const loop = { plan: { ...plan.training, stepsPerRound: steps }, schedule, onStep, signal, ...heard };
    const { weights, losses } = await trainBatches({ ...loop, parameters: model.parameters }, objective);
    const delta = subtract(weights, base, manifest);
    const first = expectDefined(losses.at(0), "loss of the first step");
    const last = expectDefined(losses.at(-1), "loss of the last step");
    return { delta, weights: applyDelta(base, delta, manifest), loss: { first, last } };
  } finally {
    model.dispose();
  }
}
