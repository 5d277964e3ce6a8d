// Local training in one round: a seeded run over a site's images from given weights to new ones. The same seed, images
// and backend give the same weights, bit for bit. It knows nothing of rounds, files or the network, and nothing of what
// a batch is: that is the recipe's.

import { setImmediate } from "node:timers/promises";
import type { TrainingPlan } from "@consilium/shared/model/study-plan.ts";
import type {
  Objective,
  SliceRecipe,
  TrainableModel,
  TrainedParameters,
  TrainingMaterial,
} from "../recipes/recipe.ts";
import { ADAMW_DEFAULTS } from "./adamw.ts";
import { learningRate } from "./learning-rate.ts";
import { Optimiser } from "./optimiser.ts";
import { type SliceMaterial, sliceObjective } from "./slice-objective.ts";

export type LocalPlan = Pick<
  TrainingPlan,
  | "stepsPerRound"
  | "batchSize"
  | "learningRate"
  | "weightDecay"
  | "gradientNormL2Max"
  | "schedule"
  | "warmupSteps"
>;

export type TrainingLoop = {
  /** Hold the weights to start from, and afterwards the trained ones. */
  readonly parameters: TrainedParameters;
  readonly plan: LocalPlan;
  /** Where these steps lie among those of the whole study; without it they are all there are. */
  readonly schedule?: { readonly stepsBefore: number; readonly stepsInAll: number };
  /** After every step, counted from 1. */
  readonly onStep?: (step: number, loss: number) => void;
  readonly signal?: AbortSignal;
  readonly onWarning?: TrainingMaterial["onWarning"];
};

/** Training of a model of single slices. */
export type LocalTraining = Omit<TrainingLoop, "parameters"> &
  Omit<SliceMaterial, "batchSize"> & {
    readonly model: TrainableModel;
    readonly loss: SliceRecipe["loss"];
  };

export type TrainedWeights = {
  /** The trainable tensors in PyTorch's order, in the order of the delta. */
  readonly weights: ReadonlyMap<string, Float32Array>;
  readonly losses: readonly number[];
};

/** @throws TrainingError, or the signal's reason between two steps. */
export async function trainLocally(training: LocalTraining): Promise<TrainedWeights> {
  const { model, loss, slices, labels, seed, augment, ...loop } = training;
  const { batchSize } = loop.plan;
  const material = { slices, labels, seed, batchSize, ...(augment && { augment }) };
  return trainBatches({ ...loop, parameters: model.parameters }, sliceObjective({ model, loss }, material));
}

/** The loop of every recipe. @throws TrainingError, or the signal's reason between two steps. */
export async function trainBatches(loop: TrainingLoop, objective: Objective): Promise<TrainedWeights> {
  const { parameters, plan, signal, onWarning } = loop;
  const { stepsBefore, stepsInAll } = loop.schedule ?? { stepsBefore: 0, stepsInAll: plan.stepsPerRound };
  const losses: number[] = [];
  const optimiser = new Optimiser(parameters, { ...ADAMW_DEFAULTS, ...plan }, onWarning);
  try {
    for (let step = 1; step <= plan.stepsPerRound; step += 1) {
      // Heartbeats and aborts happen here: a step itself occupies the process.
      await setImmediate();
      signal?.throwIfAborted();
      const rate = learningRate(plan, stepsBefore + step - 1, stepsInAll);
      const { loss } = await optimiser.step(await objective(), rate);
      losses.push(loss);
      loop.onStep?.(step, loss);
    }
    return { weights: await parameters.export(parameters.trainableNames), losses };
  } finally {
    optimiser.dispose();
  }
}
