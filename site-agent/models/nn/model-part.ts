// One named part of a model: its weights by their official names, and the two places where something else may take hold
// of it. Adapters change the result of an attention; observers look at results and keep none of them.

import { tf } from "../../backend/tensors.ts";
import type { LayerNormWeights } from "./layer-norm.ts";
import type { LinearWeights } from "./linear.ts";
import { recomputed } from "./recomputed.ts";

/** Where weights come from; the tensors stay its property. */
export type WeightSource = {
  tensor<Rank extends tf.Rank = tf.Rank>(name: string): tf.Tensor<Rank>;
};

export type PartHooks = {
  /** The image [B, H, W, C] behind the attention of the named part, changed or not. */
  readonly adapt?: (name: string, image: tf.Tensor4D) => tf.Tensor4D;
  readonly observe?: (name: string, value: tf.Tensor) => void;
  /**
   * Blocks are computed again in the backward pass. For a block, the tensors that training changes within it, those of
   * its adapters included.
   */
  readonly recompute?: (name: string) => readonly tf.Tensor[];
};

export class ModelPart {
  readonly name: string;
  readonly #weights: WeightSource;
  readonly #hooks: PartHooks;

  constructor(weights: WeightSource, hooks: PartHooks = {}, name = "") {
    this.#weights = weights;
    this.#hooks = hooks;
    this.name = name;
  }

  /** The part of that name within this one. */
  under(name: string): ModelPart {
    return new ModelPart(this.#weights, this.#hooks, this.#full(name));
  }

  tensor<Rank extends tf.Rank = tf.Rank>(name: string): tf.Tensor<Rank> {
    return this.#weights.tensor<Rank>(this.#full(name));
  }

  linear(name: string): LinearWeights {
    return {
      weight: this.tensor<tf.Rank.R2>(`${name}.weight`),
      bias: this.tensor<tf.Rank.R1>(`${name}.bias`),
    };
  }

  /** Of a convolution or a transposed one. */
  conv(name: string): { weight: tf.Tensor4D; bias: tf.Tensor1D } {
    return {
      weight: this.tensor<tf.Rank.R4>(`${name}.weight`),
      bias: this.tensor<tf.Rank.R1>(`${name}.bias`),
    };
  }

  norm(name: string): LayerNormWeights {
    return {
      gamma: this.tensor<tf.Rank.R1>(`${name}.weight`),
      beta: this.tensor<tf.Rank.R1>(`${name}.bias`),
    };
  }

  adapt(name: string, image: tf.Tensor4D): tf.Tensor4D {
    return this.#hooks.adapt?.(this.#full(name), image) ?? image;
  }

  /**
   * A block of this name: tidied, and computed again for gradients where the model is to.
   * @param others parts outside of this one that it computes with too
   */
  block<T extends tf.Tensor>(
    inputs: tf.NamedTensorMap,
    compute: (inputs: tf.NamedTensorMap) => T,
    others: readonly ModelPart[] = [],
  ): T {
    const recompute = this.#hooks.recompute;
    if (!recompute) return tf.tidy(() => compute(inputs));
    return recomputed(
      { inputs, parameters: [this, ...others].flatMap(({ name }) => recompute(name)) },
      compute,
    );
  }

  /** Show a result under the part's own name, or under a name within it. */
  observe<T extends tf.Tensor>(value: T, name = ""): T {
    this.#hooks.observe?.(this.#full(name), value);
    return value;
  }

  #full(name: string): string {
    return [this.name, name].filter((part) => part !== "").join(".");
  }
}
