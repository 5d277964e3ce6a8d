// RFMedSAM 2 (Xie et al. 2025): a frozen SAM 2.1 with adapters, prompted by a UNet, and refined in two stages. The plan
// says whether the prompter, the adapters or both are trained, and whether SAM 2's mask decoder with the adapters.

import { parseRfmedsam2Config } from "@consilium/shared/model/rfmedsam2.ts";
import { rfmedsam2Parameters, rfmedsam2Trainable } from "@consilium/shared/model/rfmedsam2-parameters.ts";
import { deepSupervisionLoss } from "../training/losses.ts";
import { compiledGradients } from "../training/slice-objective.ts";
import type { Objective, Recipe, RecipeModel, TrainingMaterial } from "./recipe.ts";
import { ClipGradients } from "./rfmedsam2/clip-gradients.ts";
import { clipLossSettings, clipObjective } from "./rfmedsam2/clip-objective.ts";
import { RFMEDSAM2_KERNELS } from "./rfmedsam2/kernels.ts";
import { Rfmedsam2 } from "./rfmedsam2/model.ts";
import { rfmedsam2Predictor } from "./rfmedsam2/predictor.ts";
import { rfmedsam2Stages } from "./rfmedsam2/stages.ts";
import { sliceModel } from "./slice-model.ts";

export const rfmedsam2: Recipe = {
  id: "rfmedsam2",
  version: 1,
  kernels: RFMEDSAM2_KERNELS,
  parameters: (config) => rfmedsam2Parameters(parseRfmedsam2Config(config)),
  trainable: (config) => rfmedsam2Trainable(parseRfmedsam2Config(config)),
  open: (config, weights) => opened(new Rfmedsam2(parseRfmedsam2Config(config), weights)),
};

function opened(model: Rfmedsam2): RecipeModel {
  const prompter = sliceModel(model.prompter, deepSupervisionLoss);
  const trainsAdapters = model.config.trains !== "prompter";
  const compiled: { dispose(): void }[] = [];
  const clips = (material: TrainingMaterial): Objective => {
    const { onWarning } = material;
    model.warn(onWarning);
    const gradients = {
      adapters: new ClipGradients(model, clipLossSettings(model), onWarning),
      prompter: compiledGradients({ model: model.prompter, loss: deepSupervisionLoss }, onWarning),
    };
    compiled.push(gradients.adapters, gradients.prompter);
    return clipObjective(model, gradients, material);
  };
  return {
    parameters: model.parameters,
    objective: (material) => (trainsAdapters ? clips(material) : prompter.objective(material)),
    predictor: (view) =>
      model.config.answer === "prompter" ? prompter.predictor(view) : rfmedsam2Predictor(model, view),
    stages: (view, asked) => rfmedsam2Stages(model, view, asked),
    dispose: () => {
      for (const gradients of compiled) gradients.dispose();
      prompter.dispose();
      model.dispose();
    },
  };
}
