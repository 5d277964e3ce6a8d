// A model as a function from slices to class probabilities, for predictions and evaluations.

import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { Labelmap, Volume } from "../data/volume.ts";
import { prepare } from "../preprocessing/prepare.ts";
import { LabelRestorer } from "../preprocessing/restore.ts";
import type {
  AskedStages,
  PredictionView,
  StackPredictor,
  StagePredictor,
  StageTally,
} from "../recipes/recipe.ts";
import { findRecipe } from "../recipes/registry.ts";
import type { WeightValues } from "./weights-file.ts";

export type Segmenter = PredictionView & { readonly predict: StackPredictor; dispose(): void };

export type MirrorChoice = { readonly mirror: boolean };

/** The caller disposes of it. @throws WeightsError, RecipeError */
export function segmenterOf(
  plan: StudyPlan,
  weights: WeightValues,
  choice: MirrorChoice = { mirror: false },
): Segmenter {
  const model = findRecipe(plan.recipe).open(plan.recipe.config, weights);
  const view = predictionView(plan, choice);
  return { ...view, predict: model.predictor(view), dispose: () => model.dispose() };
}

function predictionView(plan: StudyPlan, { mirror }: MirrorChoice): PredictionView {
  return {
    plan: plan.preprocessing,
    labels: [0, ...plan.labels.map(({ id }) => id)],
    mirrorAxes: mirror ? plan.training.mirrorAxes : [],
  };
}

/** The caller disposes of it; null where the recipe's answer has no stages. @throws WeightsError, RecipeError */
export function stagesOf(
  plan: StudyPlan,
  weights: WeightValues,
  { which, ...choice }: MirrorChoice & Pick<AskedStages, "which">,
): { readonly predict: StagePredictor; dispose(): void } | null {
  const model = findRecipe(plan.recipe).open(plan.recipe.config, weights);
  const predict = model.stages?.(predictionView(plan, choice), { which, seed: plan.training.seed });
  if (predict) return { predict, dispose: () => model.dispose() };
  model.dispose();
  return null;
}

/** A label map on the volume's own grid. */
export async function segmentVolume(volume: Volume, { plan, labels, predict }: Segmenter): Promise<Labelmap> {
  const { slices, geometry } = prepare(volume, null, plan);
  const restorer = new LabelRestorer(geometry, labels);
  for await (const probabilities of predict(slices, [...slices.keys()])) restorer.add(probabilities);
  return restorer.finish();
}

/** Every stage's label map on the volume's own grid. @param truth the volume's labels, which `all` stages prompt with */
export async function stageMaps(
  { volume, truth, plan }: { volume: Volume; truth: Labelmap | null; plan: StudyPlan },
  predict: StagePredictor,
  tally: StageTally = () => {},
): Promise<Map<string, Labelmap>> {
  const labels = [0, ...plan.labels.map(({ id }) => id)];
  const contours = truth && { labelmap: truth, contoured: [] };
  const { slices, geometry } = prepare(volume, contours, plan.preprocessing);
  const restorers = new Map<string, LabelRestorer>();
  for await (const answers of predict(slices, tally)) {
    for (const [stage, shares] of answers) {
      const restorer = restorers.get(stage) ?? new LabelRestorer(geometry, labels);
      restorers.set(stage, restorer);
      restorer.add(shares);
    }
  }
  return new Map([...restorers].map(([stage, restorer]) => [stage, restorer.finish()]));
}

/** The stage that a plan takes for the model's answer. */
export function answerStage({ recipe }: StudyPlan): string {
  const { answer } = recipe.config;
  return answer === "prompter" ? "stage-0" : String(answer);
}
