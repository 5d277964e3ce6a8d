// What follows the gradients of a step: their norm, clipping and AdamW. It leaves exactly as many tensors as it found.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { disposeOnError } from "../backend/dispose-on-error.ts";
import { hasKernel, runSingleKernel, SUM_SQUARES } from "../backend/fused-kernel.ts";
import { type CompiledStep, type CompileOptions, compileStep } from "../backend/graph/compile-step.ts";
import { tf } from "../backend/tensors.ts";
import type { Differentiated, SliceRecipe, TrainableModel, TrainedParameters } from "../recipes/recipe.ts";
import {
  type AdamWPlan,
  type AdamWState,
  adamWTensors,
  disposeAdamW,
  initialAdamW,
  updateAdamW,
} from "./adamw.ts";
import { type TrainingBatch, TrainingError } from "./training-slice.ts";

export type OptimiserPlan = Omit<AdamWPlan, "learningRateShares"> & {
  /** L2 norm of all gradients together to which they are scaled down. */
  readonly gradientNormL2Max: number;
};

export type StepTaken = {
  readonly loss: number;
  /** Before clipping. */
  readonly gradientNormL2: number;
};

/** Trains the tensors of a model with what AdamW knows of them, which is nothing at first. */
export class Optimiser {
  readonly #parameters: TrainedParameters;
  readonly #plan: AdamWPlan & OptimiserPlan;
  #state: AdamWState;
  readonly #sumOfSquares: CompiledStep<{ sum: tf.Tensor }>;
  readonly #stepTensors: CompiledStep<tf.NamedTensorMap>;

  constructor(parameters: TrainedParameters, plan: OptimiserPlan, onWarning?: CompileOptions["onWarning"]) {
    const { learningRateShares } = parameters;
    this.#parameters = parameters;
    this.#plan = { ...plan, ...(learningRateShares && { learningRateShares }) };
    this.#state = initialAdamW(parameters.trainable());
    const options = (name: string): CompileOptions => ({ name, ...(onWarning && { onWarning }) });
    this.#sumOfSquares = compileStep(sumOfSquares, options("norm of gradients"));
    this.#stepTensors = compileStep(adamWTensors(this.#plan), options("optimiser"));
  }

  get stepCount(): number {
    return this.#state.step;
  }

  /**
   * Takes over the gradients, and replaces the trainable tensors.
   * @throws TrainingError `training.diverged` when the loss or a gradient is no longer finite; the model is unchanged
   */
  async step({ value, grads }: Differentiated, learningRate: number): Promise<StepTaken> {
    const values = this.#parameters.trainable();
    try {
      const names = [...values.keys()];
      const gradients = new Map(
        grads.map((gradient, index) => [expectDefined(names[index], "name"), gradient]),
      );
      const loss = await scalar(value);
      const gradientNormL2 = await this.#normL2(gradients);
      if (!Number.isFinite(loss) || !Number.isFinite(gradientNormL2)) throw diverged();
      const gradientScale = Math.min(1, this.#plan.gradientNormL2Max / (gradientNormL2 + NORM_EPSILON));
      const update = { values, gradients, learningRate, gradientScale };
      const before = this.#state;
      const updated = disposeOnError(() =>
        updateAdamW(this.#plan, before, update, (inputs) => this.#stepTensors.run(inputs)),
      );
      this.#state = updated.state;
      disposeAdamW(before);
      this.#parameters.replace(updated.values);
      return { loss, gradientNormL2 };
    } finally {
      tf.dispose([value, [...grads]]);
    }
  }

  async #normL2(gradients: ReadonlyMap<string, tf.Tensor>): Promise<number> {
    const { sum } = disposeOnError(() => this.#sumOfSquares.run(Object.fromEntries(gradients)));
    try {
      return Math.sqrt(await scalar(sum));
    } finally {
      sum.dispose();
    }
  }

  dispose(): void {
    disposeAdamW(this.#state);
    this.#sumOfSquares.dispose();
    this.#stepTensors.dispose();
  }
}

/**
 * A step of a model of single slices.
 * @throws as `Optimiser.step`
 */
export async function trainStep(
  { model, loss }: { readonly model: TrainableModel; readonly loss: SliceRecipe["loss"] },
  { images, target }: TrainingBatch,
  optimiser: Optimiser,
  learningRate: number,
): Promise<StepTaken> {
  const values = [...model.parameters.trainable().values()];
  const differentiated = disposeOnError(() =>
    tf.valueAndGrads(() => loss(model.forward(images), target))(values),
  );
  return optimiser.step(differentiated as Differentiated, learningRate); // The loss is a scalar.
}

/** PyTorch's constant in clip_grad_norm_. */
const NORM_EPSILON = 1e-6;

function sumOfSquares(tensors: tf.NamedTensorMap): { sum: tf.Tensor } {
  const each = Object.values(tensors).map((x) =>
    hasKernel(SUM_SQUARES) ? runSingleKernel(SUM_SQUARES, { x }) : tf.sum(tf.square(x)),
  );
  return { sum: tf.addN(each) };
}

async function scalar(tensor: tf.Tensor): Promise<number> {
  return expectDefined((await tensor.data())[0], "a scalar");
}

function diverged(): TrainingError {
  const message = "Training diverged: the loss is no longer a number. Lower the plan's learning rate.";
  return new TrainingError("training.diverged", message);
}
