// Local training in one round: a seeded run over a site's images from given weights to new ones. The same seed, images
// and backend give the same weights, bit for bit. It knows nothing of rounds, files or the network, and nothing of what
// a batch is: that is the recipe's.

import { setImmediate } from "node:timers/promises";
import type { TrainingPlan } from "@consilium/shared/model/study-plan.ts";
import type { Objective, SliceRecipe, TrainableModel, TrainedParameters } from "../recipes/recipe.ts";
import { ADAMW_DEFAULTS, disposeAdamW, initialAdamW } from "./adamw.ts";
import { learningRate } from "./learning-rate.ts";
import { type SliceMaterial, sliceObjective } from "./slice-objective.ts";
import { stepWith } from "./train-step.ts";

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
  const { parameters, plan, signal } = loop;
  const { stepsBefore, stepsInAll } = loop.schedule ?? { stepsBefore: 0, stepsInAll: plan.stepsPerRound };
  const losses: number[] = [];
  let state = initialAdamW(parameters.trainable());
  try {
    for (let step = 1; step <= plan.stepsPerRound; step += 1) {
      // Heartbeats and aborts happen here: a step itself occupies the process.
      await setImmediate();
      signal?.throwIfAborted();
      const taken = await stepWith(parameters, await objective(), state, {
        ...ADAMW_DEFAULTS,
        weightDecay: plan.weightDecay,
        gradientNormL2Max: plan.gradientNormL2Max,
        learningRate: learningRate(plan, stepsBefore + step - 1, stepsInAll),
      });
      state = taken.state;
      losses.push(taken.loss);
      loop.onStep?.(step, taken.loss);
    }
    return { weights: await parameters.export(parameters.trainableNames), losses };
  } finally {
    disposeAdamW(state);
  }
}
