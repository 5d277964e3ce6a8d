// What training looks at in a model of single slices: batches of slices that have nothing to do with each other.

import { Prng } from "@consilium/shared/base/prng.ts";
import { disposeOnError } from "../backend/dispose-on-error.ts";
import { tf } from "../backend/tensors.ts";
import type { Differentiated, Objective, SliceRecipe, TrainableModel } from "../recipes/recipe.ts";
import { SliceSampler } from "./slice-sampler.ts";
import { batchTensors, disposeBatch, type TrainingSlice } from "./training-slice.ts";

export type SliceMaterial = {
  readonly slices: readonly TrainingSlice[];
  /** Label id of each class, background first. */
  readonly labels: readonly number[];
  readonly batchSize: number;
  readonly seed: number;
  /** Returns a changed copy; it must not change the size. */
  readonly augment?: (slice: TrainingSlice, prng: Prng) => TrainingSlice;
};

/** @throws TrainingError where there is no slice, and with every batch for slices that do not fit */
export function sliceObjective(
  { model, loss }: { readonly model: TrainableModel; readonly loss: SliceRecipe["loss"] },
  { slices, labels, batchSize, seed, augment }: SliceMaterial,
): Objective {
  const sampler = new SliceSampler(slices, Prng.labelled(seed, "slices"));
  const augmentation = Prng.labelled(seed, "augmentation");
  return async () => {
    const drawn = sampler.draw(batchSize).map((slice) => augment?.(slice, augmentation) ?? slice);
    return sliceGradients({ model, loss }, drawn, labels);
  };
}

export function sliceGradients(
  { model, loss }: { readonly model: TrainableModel; readonly loss: SliceRecipe["loss"] },
  slices: readonly TrainingSlice[],
  labels: readonly number[],
): Differentiated {
  const batch = batchTensors(slices, labels);
  try {
    const values = [...model.parameters.trainable().values()];
    const differentiated = disposeOnError(() =>
      tf.valueAndGrads(() => loss(model.forward(batch.images), batch.target))(values),
    );
    return differentiated as Differentiated; // The loss is a scalar.
  } finally {
    disposeBatch(batch);
  }
}
