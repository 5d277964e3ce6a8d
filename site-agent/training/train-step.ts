// One training step: forward, loss, gradient, clipped update. It leaves exactly as many tensors as it found.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { disposeOnError } from "../backend/dispose-on-error.ts";
import { hasKernel, runSingleKernel, SUM_SQUARES } from "../backend/fused-kernel.ts";
import { tf } from "../backend/tensors.ts";
import type { Differentiated, SliceRecipe, TrainableModel, TrainedParameters } from "../recipes/recipe.ts";
import { type AdamWPlan, type AdamWState, disposeAdamW, updateAdamW } from "./adamw.ts";
import { type TrainingBatch, TrainingError } from "./training-slice.ts";

export type StepPlan = AdamWPlan & {
  readonly learningRate: number;
  /** L2 norm of all gradients together to which they are scaled down. */
  readonly gradientNormL2Max: number;
};

export type StepResult = {
  readonly state: AdamWState;
  readonly loss: number;
  /** Before clipping. */
  readonly gradientNormL2: number;
};

/**
 * A step of a model of single slices.
 * @throws as `stepWith`
 */
export async function trainStep(
  { model, loss }: { readonly model: TrainableModel; readonly loss: SliceRecipe["loss"] },
  { images, target }: TrainingBatch,
  state: AdamWState,
  plan: StepPlan,
): Promise<StepResult> {
  const values = [...model.parameters.trainable().values()];
  const differentiated = disposeOnError(() =>
    tf.valueAndGrads(() => loss(model.forward(images), target))(values),
  );
  return stepWith(model.parameters, differentiated as Differentiated, state, plan); // The loss is a scalar.
}

/**
 * Takes over `state` and the gradients, and replaces the trainable tensors.
 * @throws TrainingError `training.diverged` when the loss or a gradient is no longer finite; the model is unchanged
 */
export async function stepWith(
  parameters: TrainedParameters,
  { value, grads }: Differentiated,
  state: AdamWState,
  plan: StepPlan,
): Promise<StepResult> {
  const values = parameters.trainable();
  try {
    const lossValue = await scalar(value);
    const gradientNormL2 = await normL2(grads);
    if (!Number.isFinite(lossValue) || !Number.isFinite(gradientNormL2)) throw diverged();
    const names = [...values.keys()];
    const gradients = new Map(
      grads.map((gradient, index) => [expectDefined(names[index], "name"), gradient]),
    );
    const gradientScale = Math.min(1, plan.gradientNormL2Max / (gradientNormL2 + NORM_EPSILON));
    const { learningRate } = plan;
    const { learningRateShares } = parameters;
    const update = {
      ...{ values, gradients, learningRate, gradientScale },
      ...(learningRateShares && { learningRateShares }),
    };
    const updated = disposeOnError(() => updateAdamW(plan, state, update));
    disposeAdamW(state);
    parameters.replace(updated.values);
    return { state: updated.state, loss: lossValue, gradientNormL2 };
  } finally {
    tf.dispose([value, [...grads]]);
  }
}

/** PyTorch's constant in clip_grad_norm_. */
const NORM_EPSILON = 1e-6;

async function normL2(tensors: readonly tf.Tensor[]): Promise<number> {
  const squares = disposeOnError(() => tf.tidy(() => tf.addN(tensors.map(sumOfSquares))));
  try {
    return Math.sqrt(await scalar(squares));
  } finally {
    squares.dispose();
  }
}

function sumOfSquares(x: tf.Tensor): tf.Tensor {
  return hasKernel(SUM_SQUARES) ? runSingleKernel(SUM_SQUARES, { x }) : tf.sum(tf.square(x));
}

async function scalar(tensor: tf.Tensor): Promise<number> {
  return expectDefined((await tensor.data())[0], "a scalar");
}

function diverged(): TrainingError {
  const message = "Training diverged: the loss is no longer a number. Lower the plan's learning rate.";
  return new TrainingError("training.diverged", message);
}
