// Losses and gradients that are computed one after another and count together: memory is that of the largest part and of
// one gradient for every tensor, however many parts there are.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import { tf } from "../backend/tensors.ts";
import type { Differentiated } from "../recipes/recipe.ts";

export class GradientSum {
  readonly #tensors: readonly tf.Tensor[];
  #value: tf.Scalar | null = null;
  readonly #grads: (tf.Tensor | undefined)[];

  /** @param tensors those that are differentiated for, in their order */
  constructor(tensors: readonly tf.Tensor[]) {
    this.#tensors = tensors;
    this.#grads = tensors.map(() => undefined);
  }

  /** Takes over gradients, none for a tensor that a part does not depend on, and what they are gradients of. */
  add(grads: readonly (tf.Tensor | undefined)[], value?: tf.Scalar): void {
    if (value) this.#value = replaced(this.#value, value) as tf.Scalar; // A sum of scalars.
    grads.forEach((gradient, index) => {
      if (gradient) this.#grads[index] = replaced(this.#grads[index] ?? null, gradient);
    });
  }

  /** The sums times a factor; nothing is left here. */
  finish(factor: number): Differentiated {
    const value = tf.tidy(() => tf.mul(this.#value ?? tf.scalar(0), factor)) as tf.Scalar; // A scalar times a number.
    const grads = this.#tensors.map((tensor, index) => {
      const sum = this.#grads[index];
      if (!sum) return tf.zerosLike(tensor);
      if (factor !== 1) return tf.mul(sum, factor);
      this.#grads[index] = undefined; // Handed over as it is.
      return sum;
    });
    assert(grads.length === this.#tensors.length, "one gradient for every tensor");
    this.dispose();
    return { value, grads };
  }

  dispose(): void {
    this.#value?.dispose();
    this.#value = null;
    this.#grads.forEach((gradient, index) => {
      gradient?.dispose();
      this.#grads[index] = undefined;
    });
  }
}

/** The sum of both, in place of both. */
function replaced(sum: tf.Tensor | null, part: tf.Tensor): tf.Tensor {
  if (sum === null) return part;
  const added = tf.add(sum, part);
  tf.dispose([sum, part]);
  return expectDefined(added, "a sum");
}
