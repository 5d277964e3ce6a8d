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
  disposeAdamW,
  initialAdamW,
  stepNumbers,
  stepTensors,
} from "./adamw.ts";
import { JoinedTensors } from "./joined-tensors.ts";
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
  readonly #joined: JoinedTensors;
  /** Of joined tensors. */
  readonly #plan: AdamWPlan & OptimiserPlan;
  #state: AdamWState;
  /** Of the step that is being taken. */
  #gradients: readonly tf.Tensor[] = [];
  readonly #update: CompiledStep<tf.NamedTensorMap>;

  constructor(parameters: TrainedParameters, plan: OptimiserPlan, onWarning?: CompileOptions["onWarning"]) {
    const { trainableNames: names, learningRateShares: shares } = parameters;
    const shareOfKind = new Map<string, number>();
    // Tensors of one axis are not decayed.
    this.#joined = new JoinedTensors([...parameters.trainable().values()], ({ rank }, index) => {
      const share = shares?.get(names[index] ?? "") ?? 1;
      const kind = `${share} of the rate${rank > 1 ? ", decayed" : ""}`;
      shareOfKind.set(kind, share);
      return kind;
    });
    const { groups } = this.#joined;
    const learningRateShares = new Map(groups.map(({ key, kind }) => [key, shareOfKind.get(kind) ?? 1]));
    this.#parameters = parameters;
    this.#plan = { ...plan, learningRateShares };
    this.#state = initialAdamW(new Map(groups.map((group) => [group.key, group])));
    this.#update = compileStep((inputs) => this.#updated(inputs), {
      name: "optimiser",
      reads: () => [...this.#values(), ...this.#gradients],
      ...(onWarning && { onWarning }),
    });
  }

  get stepCount(): number {
    return this.#state.step;
  }

  /**
   * Takes over the gradients, and replaces the trainable tensors.
   * @throws TrainingError `training.diverged` when the loss or a gradient is no longer finite; the model is unchanged
   */
  async step({ value, grads }: Differentiated, learningRate: number): Promise<StepTaken> {
    let found: tf.NamedTensorMap | null = null;
    try {
      this.#gradients = grads;
      found = disposeOnError(() => this.#run(learningRate));
      const loss = await scalar(value);
      const gradientNormL2 = await scalar(expectDefined(found[NORM], NORM));
      if (!Number.isFinite(loss) || !Number.isFinite(gradientNormL2)) throw diverged();
      this.#take(found);
      found = { [NORM]: expectDefined(found[NORM], NORM) };
      return { loss, gradientNormL2 };
    } finally {
      this.#gradients = [];
      tf.dispose([value, [...grads], found ?? []]);
    }
  }

  dispose(): void {
    disposeAdamW(this.#state);
    this.#update.dispose();
  }

  #values(): tf.Tensor[] {
    return [...this.#parameters.trainable().values()];
  }

  get #keys(): string[] {
    return this.#joined.groups.map(({ key }) => key);
  }

  #run(learningRate: number): tf.NamedTensorMap {
    const { step, first, second } = this.#state;
    const numbers = stepNumbers(this.#plan, { step: step + 1, names: this.#keys, learningRate });
    try {
      return this.#update.run({ ...numbers, ...named(FIRST, first), ...named(SECOND, second) });
    } finally {
      tf.dispose(numbers);
    }
  }

  /** Of given moments and numbers, values and gradients: new values, new moments, and the norm before clipping. */
  #updated(inputs: tf.NamedTensorMap): tf.NamedTensorMap {
    const keys = this.#keys;
    const gradients = this.#joined.join(this.#gradients);
    const norm = tf.sqrt(sumOfSquares([...gradients.values()]));
    const excess = tf.div(tf.add(norm, NORM_EPSILON), this.#plan.gradientNormL2Max);
    const stepped = stepTensors(this.#plan, {
      ...{ values: this.#joined.join(this.#values()), gradients, numbers: inputs },
      ...{ first: unnamed(FIRST, keys, inputs), second: unnamed(SECOND, keys, inputs) },
      gradientScale: tf.div(1, tf.maximum(1, excess)),
    });
    const values = this.#joined.part(stepped.values);
    return {
      [NORM]: norm,
      ...Object.fromEntries(values.map((value, index) => [`${VALUE} ${index}`, value])),
      ...named(FIRST, stepped.first),
      ...named(SECOND, stepped.second),
    };
  }

  #take(found: tf.NamedTensorMap): void {
    const before = this.#state;
    const moments = { first: unnamed(FIRST, this.#keys, found), second: unnamed(SECOND, this.#keys, found) };
    this.#state = { step: before.step + 1, ...moments };
    disposeAdamW(before);
    const values = this.#parameters.trainableNames.map((name, index) => {
      const key = `${VALUE} ${index}`;
      return [name, expectDefined(found[key], key)] as const;
    });
    this.#parameters.replace(new Map(values));
  }
}

const [NORM, VALUE, FIRST, SECOND] = ["norm", "value", "first", "second"] as const;

function named(role: string, tensors: ReadonlyMap<string, tf.Tensor>): tf.NamedTensorMap {
  return Object.fromEntries([...tensors].map(([key, tensor]) => [`${role} ${key}`, tensor]));
}

function unnamed(role: string, keys: readonly string[], tensors: tf.NamedTensorMap): Map<string, tf.Tensor> {
  return new Map(keys.map((key) => [key, expectDefined(tensors[`${role} ${key}`], `${role} ${key}`)]));
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

function sumOfSquares(tensors: readonly tf.Tensor[]): tf.Tensor {
  const each = tensors.map((x) =>
    hasKernel(SUM_SQUARES) ? runSingleKernel(SUM_SQUARES, { x }) : tf.sum(tf.square(x)),
  );
  return tf.addN(each);
}

async function scalar(tensor: tf.Tensor): Promise<number> {
  return expectDefined((await tensor.data())[0], "a scalar");
}

function diverged(): TrainingError {
  const message = "Training diverged: the loss is no longer a number. Lower the plan's learning rate.";
  return new TrainingError("training.diverged", message);
}
