// Local training in one round: a seeded run over a site's slices from given weights to new ones. The same seed, slices
// and backend give the same weights, bit for bit. It knows nothing of rounds, files or the network.

import { setImmediate } from "node:timers/promises";
import { Prng } from "@consilium/shared/base/prng.ts";
import type { TrainingPlan } from "@consilium/shared/model/study-plan.ts";
import type { Recipe, TrainableModel } from "../recipes/recipe.ts";
import { ADAMW_DEFAULTS, type AdamWState, disposeAdamW, initialAdamW } from "./adamw.ts";
import { learningRate } from "./learning-rate.ts";
import { SliceSampler } from "./slice-sampler.ts";
import { trainStep } from "./train-step.ts";
import { batchTensors, disposeBatch, type TrainingSlice } from "./training-slice.ts";

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

export type LocalTraining = {
  /** Holds the weights to start from, and afterwards the trained ones. */
  readonly model: TrainableModel;
  readonly loss: Recipe["loss"];
  readonly slices: readonly TrainingSlice[];
  /** Label id of each class, background first. */
  readonly labels: readonly number[];
  readonly plan: LocalPlan;
  readonly seed: number;
  /** Where these steps lie among those of the whole study; without it they are all there are. */
  readonly schedule?: { readonly stepsBefore: number; readonly stepsInAll: number };
  /** Returns a changed copy; it must not change the size. */
  readonly augment?: (slice: TrainingSlice, prng: Prng) => TrainingSlice;
  /** After every step, counted from 1. */
  readonly onStep?: (step: number, loss: number) => void;
  readonly signal?: AbortSignal;
};

export type TrainedWeights = {
  /** The trainable tensors in PyTorch's order, in the order of the delta. */
  readonly weights: ReadonlyMap<string, Float32Array>;
  readonly losses: readonly number[];
};

/** @throws TrainingError, or the signal's reason between two steps. */
export async function trainLocally(training: LocalTraining): Promise<TrainedWeights> {
  const { model, slices, plan, seed, signal } = training;
  const sampler = new SliceSampler(slices, Prng.labelled(seed, "slices"));
  const augmentation = Prng.labelled(seed, "augmentation");
  const losses: number[] = [];
  let state = initialAdamW(model.parameters.trainable());
  try {
    for (let step = 1; step <= plan.stepsPerRound; step += 1) {
      // Heartbeats and aborts happen here: a step itself occupies the process.
      await setImmediate();
      signal?.throwIfAborted();
      const drawn = sampler.draw(plan.batchSize);
      const batch = drawn.map((slice) => training.augment?.(slice, augmentation) ?? slice);
      const taken = await takeStep(training, batch, state, step);
      state = taken.state;
      losses.push(taken.loss);
      training.onStep?.(step, taken.loss);
    }
    return { weights: await model.parameters.export(model.parameters.trainableNames), losses };
  } finally {
    disposeAdamW(state);
  }
}

async function takeStep(
  { model, loss, labels, plan, schedule }: LocalTraining,
  slices: readonly TrainingSlice[],
  state: AdamWState,
  step: number,
): Promise<{ readonly state: AdamWState; readonly loss: number }> {
  const { stepsBefore, stepsInAll } = schedule ?? { stepsBefore: 0, stepsInAll: plan.stepsPerRound };
  const batch = batchTensors(slices, labels);
  try {
    return await trainStep({ model, loss }, batch, state, {
      ...ADAMW_DEFAULTS,
      weightDecay: plan.weightDecay,
      gradientNormL2Max: plan.gradientNormL2Max,
      learningRate: learningRate(plan, stepsBefore + step - 1, stepsInAll),
    });
  } finally {
    disposeBatch(batch);
  }
}
