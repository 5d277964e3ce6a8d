// A model as a function from images to class probabilities, for predictions and evaluations.

import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { PredictionOptions } from "../evaluation/predict-volume.ts";
import { findRecipe } from "../recipes/registry.ts";
import { segmentSlices } from "../recipes/segment-slices.ts";
import type { WeightValues } from "./weights-file.ts";

/** Patches that go through the network at once. */
const batchSize = 8;

export type Segmenter = PredictionOptions & { dispose(): void };

/** The caller disposes of it. @throws WeightsError, RecipeError */
export function segmenterOf(
  plan: StudyPlan,
  weights: WeightValues,
  { mirror }: { readonly mirror: boolean } = { mirror: false },
): Segmenter {
  const model = findRecipe(plan.recipe).build(plan.recipe.config, weights);
  return {
    plan: plan.preprocessing,
    labels: [0, ...plan.labels.map(({ id }) => id)],
    batchSize,
    mirrorAxes: mirror ? plan.training.mirrorAxes : [],
    segment: (images, shape) => segmentSlices(model, images, shape),
    dispose: () => model.dispose(),
  };
}
