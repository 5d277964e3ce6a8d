// A model of single slices as the agent uses it: batches of slices in training, patches of slices in prediction.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { CompileOptions } from "../backend/graph/compile-step.ts";
import { predictSlices } from "../evaluation/predict-volume.ts";
import {
  compiledPredictor,
  type Predictor,
  SLICES_AT_ONCE,
  segmentSlices,
} from "../models/segment-slices.ts";
import { type CompiledGradients, compiledGradients, sliceObjective } from "../training/slice-objective.ts";
import type { TrainingSlice } from "../training/training-slice.ts";
import type { PredictionView, RecipeModel, SliceRecipe, StackPredictor, TrainableModel } from "./recipe.ts";

export function sliceModel(model: TrainableModel, loss: SliceRecipe["loss"]): RecipeModel {
  const compiled: CompiledGradients[] = [];
  let hear: CompileOptions["onWarning"];
  const prediction = compiledPredictor(model, (warning) => hear?.(warning));
  return {
    parameters: model.parameters,
    objective: ({ cases, labels, batchSize, seed, view, onWarning }) => {
      hear = onWarning;
      const augment = (slice: TrainingSlice, prng: Parameters<typeof view>[1]): TrainingSlice =>
        expectDefined(view([slice], prng)[0], "view of a slice");
      const gradients = compiledGradients({ model, loss }, onWarning);
      compiled.push(gradients);
      const material = { slices: cases.flat(), labels, batchSize, seed, augment };
      return sliceObjective({ model, loss }, material, gradients.differentiate);
    },
    predictor: (view) => slicePredictor(prediction, view),
    dispose: () => {
      for (const one of [...compiled, prediction]) one.dispose();
      model.dispose();
    },
  };
}

/** Softmax of the full-resolution logits, patch by patch. */
export function slicePredictor(model: Predictor, view: PredictionView): StackPredictor {
  return (slices, wanted) =>
    predictSlices(
      wanted.map((index) => expectDefined(slices[index], "a wanted slice")),
      {
        ...view,
        batchSize: SLICES_AT_ONCE,
        segment: (images, shape) => segmentSlices(model, images, shape, SLICES_AT_ONCE),
      },
    );
}
