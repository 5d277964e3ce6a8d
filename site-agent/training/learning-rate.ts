// Learning rates as functions of the step: pure, so that a plan says everything and a resumed training goes on the same.

import type { TrainingPlan } from "@consilium/shared/model/study-plan.ts";

export type LearningRatePlan = Pick<TrainingPlan, "learningRate" | "schedule" | "warmupSteps">;

/** nnU-Net's exponent. */
const POLYNOMIAL_POWER = 0.9;

/**
 * A linear rise over the warm-up steps to the plan's rate, then a fall towards 0 at `stepCount`: polynomial (nnU-Net) or
 * along half a cosine (Loshchilov and Hutter 2017).
 * @param step counts from 0
 */
export function learningRate(plan: LearningRatePlan, step: number, stepCount: number): number {
  const { learningRate: peak, schedule, warmupSteps } = plan;
  if (step < warmupSteps) return (peak * (step + 1)) / (warmupSteps + 1);
  const progress = Math.min(1, (step - warmupSteps) / Math.max(1, stepCount - warmupSteps));
  if (schedule === "polynomial") return peak * (1 - progress) ** POLYNOMIAL_POWER;
  return (peak * (1 + Math.cos(Math.PI * progress))) / 2;
}
