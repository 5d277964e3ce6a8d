// A model as a function from images to class probabilities, for predictions and evaluations.

import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { tf } from "../backend/tensors.ts";
import type { BatchShape, PredictionOptions } from "../evaluation/predict-volume.ts";
import type { TrainableModel } from "../recipes/recipe.ts";
import { findRecipe } from "../recipes/registry.ts";
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
    segment: (images, shape) => classShares(model, images, shape),
    dispose: () => model.dispose(),
  };
}

/** Softmax of the full-resolution logits: [count, height, width, classes]. */
async function classShares(
  model: TrainableModel,
  images: Float32Array,
  { count, height, width, channels }: BatchShape,
): Promise<Float32Array> {
  const shares = tf.tidy(() =>
    tf.softmax(model.predict(tf.tensor4d(images, [count, height, width, channels]))),
  );
  try {
    return (await shares.data()) as Float32Array; // A softmax is float32.
  } finally {
    shares.dispose();
  }
}
