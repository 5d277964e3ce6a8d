// What training looks at in a model of single slices: batches of slices that have nothing to do with each other.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { disposeOnError } from "../backend/dispose-on-error.ts";
import { type CompileOptions, compileStep } from "../backend/graph/compile-step.ts";
import { tf } from "../backend/tensors.ts";
import type { Differentiated, Objective, SliceRecipe, TrainableModel } from "../recipes/recipe.ts";
import { SliceSampler } from "./slice-sampler.ts";
import { batchTensors, disposeBatch, type TrainingBatch, type TrainingSlice } from "./training-slice.ts";

export type SliceMaterial = {
  readonly slices: readonly TrainingSlice[];
  /** Label id of each class, background first. */
  readonly labels: readonly number[];
  readonly batchSize: number;
  readonly seed: number;
  /** Returns a changed copy; it must not change the size. */
  readonly augment?: (slice: TrainingSlice, prng: Prng) => TrainingSlice;
};

type SliceLearner = { readonly model: TrainableModel; readonly loss: SliceRecipe["loss"] };

/**
 * @param differentiate for a step that is compiled; else every operation is carried out by itself
 * @throws TrainingError where there is no slice, and with every batch for slices that do not fit
 */
export function sliceObjective(
  learner: SliceLearner,
  { slices, labels, batchSize, seed, augment }: SliceMaterial,
  differentiate = (batch: TrainingBatch) => eagerGradients(learner, batch),
): Objective {
  const sampler = new SliceSampler(slices, Prng.labelled(seed, "slices"));
  const augmentation = Prng.labelled(seed, "augmentation");
  return async () => {
    const drawn = sampler.draw(batchSize).map((slice) => augment?.(slice, augmentation) ?? slice);
    return sliceGradients(drawn, labels, differentiate);
  };
}

export function sliceGradients(
  slices: readonly TrainingSlice[],
  labels: readonly number[],
  differentiate: CompiledGradients["differentiate"],
): Differentiated {
  const batch = batchTensors(slices, labels);
  try {
    return disposeOnError(() => differentiate(batch));
  } finally {
    disposeBatch(batch);
  }
}

function eagerGradients({ model, loss }: SliceLearner, { images, target }: TrainingBatch): Differentiated {
  const values = [...model.parameters.trainable().values()];
  const differentiated = tf.valueAndGrads(() => loss(model.forward(images), target))(values);
  return differentiated as Differentiated; // The loss is a scalar.
}

export type CompiledGradients = {
  readonly differentiate: (batch: TrainingBatch) => Differentiated;
  readonly dispose: () => void;
};

/** Loss and gradients of a batch, compiled where the backend can. The model's weights are inputs: every step changes them. */
export function compiledGradients(
  learner: SliceLearner,
  onWarning?: CompileOptions["onWarning"],
): CompiledGradients {
  const compute = ({ images, classes, drawn }: tf.NamedTensorMap): tf.NamedTensorMap => {
    // The shapes and types that a batch has.
    const target = { classes: classes as tf.Tensor3D, drawn: drawn as tf.Tensor2D };
    const { value, grads } = eagerGradients(learner, { images: images as tf.Tensor4D, target }); // As above.
    return { value, ...numbered(grads) };
  };
  const weights = (): tf.Tensor[] => [...learner.model.parameters.trainable().values()];
  const options = { name: "gradients of slices", reads: weights, ...(onWarning && { onWarning }) };
  const step = compileStep(compute, options);
  return {
    differentiate: ({ images, target: { classes, drawn } }) => {
      const found = step.run({ images, classes, drawn });
      const grads = weights().map((_, index) => expectDefined(found[`gradient ${index}`], "a gradient"));
      return { value: expectDefined(found["value"], "the loss") as tf.Scalar, grads }; // As `compute` gives it.
    },
    dispose: () => step.dispose(),
  };
}

function numbered(gradients: readonly tf.Tensor[]): tf.NamedTensorMap {
  return Object.fromEntries(gradients.map((gradient, index) => [`gradient ${index}`, gradient]));
}
