// One update of a model of which a step may use only a part: tensors without a gradient, and what the optimiser knows of
// them, stay as they are. It leaves exactly as many tensors as it found.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { disposeOnError } from "../backend/dispose-on-error.ts";
import { tf } from "../backend/tensors.ts";
import type { Parameters } from "../models/parameters.ts";
import { type AdamWPlan, type AdamWState, updateAdamW } from "../training/adamw.ts";
import { TrainingError } from "../training/training-slice.ts";

export type SparseStepPlan = AdamWPlan & {
  readonly learningRate: number;
  /** L2 norm of all gradients together to which they are scaled down. */
  readonly gradientNormL2Max: number;
};

export type SparseStep = {
  readonly state: AdamWState;
  readonly loss: number;
  readonly gradientNormL2: number;
};

/** PyTorch's constant in clip_grad_norm_. */
const NORM_EPSILON = 1e-6;

/**
 * Takes over `state` and replaces the trainable tensors that the loss depends on.
 * @throws TrainingError `training.diverged` when the loss or a gradient is no longer finite; the model is unchanged
 */
export function sparseOptimiserStep(
  parameters: Parameters,
  loss: () => tf.Scalar,
  state: AdamWState,
  plan: SparseStepPlan,
): SparseStep {
  const trainable = parameters.trainable();
  const { value, gradients } = disposeOnError(() => gradientsOf(trainable, loss));
  try {
    const lossValue = scalar(value);
    const gradientNormL2 = tf.tidy(() => normL2([...gradients.values()]));
    if (!Number.isFinite(lossValue) || !Number.isFinite(gradientNormL2)) throw diverged();
    const values = new Map([...trainable].filter(([name]) => gradients.has(name)));
    const gradientScale = Math.min(1, plan.gradientNormL2Max / (gradientNormL2 + NORM_EPSILON));
    const update = { values, gradients, learningRate: plan.learningRate, gradientScale };
    const updated = disposeOnError(() => updateAdamW(plan, state, update));
    const next = {
      step: updated.state.step,
      first: replaced(state.first, updated.state.first),
      second: replaced(state.second, updated.state.second),
    };
    parameters.replace(updated.values);
    return { state: next, loss: lossValue, gradientNormL2 };
  } finally {
    tf.dispose([value, ...gradients.values()]);
  }
}

/** Of the tensors on which the loss depends. */
function gradientsOf(
  trainable: ReadonlyMap<string, tf.Tensor>,
  loss: () => tf.Scalar,
): { readonly value: tf.Scalar; readonly gradients: ReadonlyMap<string, tf.Tensor> } {
  const names = [...trainable.keys()];
  const { value, grads } = tf.engine().gradients(loss, [...trainable.values()], undefined, true);
  const found = (grads as (tf.Tensor | undefined)[]).flatMap(
    // With the last argument above, a tensor that the loss does not depend on has none.
    (gradient, index): [string, tf.Tensor][] =>
      gradient === undefined ? [] : [[expectDefined(names[index], "name"), gradient]],
  );
  return { value, gradients: new Map(found) };
}

/** All tensors of `old`, those in `updated` in their new form; the old forms are disposed. */
function replaced(
  old: ReadonlyMap<string, tf.Tensor>,
  updated: ReadonlyMap<string, tf.Tensor>,
): Map<string, tf.Tensor> {
  return new Map(
    [...old].map(([name, tensor]) => {
      const next = updated.get(name);
      if (next) tensor.dispose();
      return [name, next ?? tensor];
    }),
  );
}

function normL2(tensors: readonly tf.Tensor[]): number {
  return Math.sqrt(scalar(tf.addN(tensors.map((tensor) => tf.sum(tf.square(tensor))))));
}

function scalar(tensor: tf.Tensor): number {
  return expectDefined(tensor.dataSync()[0], "a scalar");
}

function diverged(): TrainingError {
  const message = "Pretraining diverged: the loss is no longer a number. Lower the plan's learning rate.";
  return new TrainingError("training.diverged", message);
}
