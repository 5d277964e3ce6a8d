// Low-rank updates of linear layers (Hu et al. 2022): a weight W is used as W + scale * B A with trained A and B. The
// update is added where the weight is read, so that the model's layers need not know of it; the sum lives as long as the
// tidied part that reads it.

import type { LoraPlace } from "@consilium/shared/model/adapters-places.ts";
import { tf } from "../../backend/tensors.ts";
import type { WeightSource } from "../nn/model-part.ts";

export class LowRankWeights implements WeightSource {
  readonly #base: WeightSource;
  readonly #adapters: WeightSource;
  readonly #places: ReadonlyMap<string, LoraPlace>;

  constructor(base: WeightSource, places: readonly LoraPlace[], adapters: WeightSource) {
    this.#base = base;
    this.#adapters = adapters;
    this.#places = new Map(places.map((place) => [`${place.name}.weight`, place]));
  }

  tensor<Rank extends tf.Rank = tf.Rank>(name: string): tf.Tensor<Rank> {
    const weight = this.#base.tensor<Rank>(name);
    const place = this.#places.get(name);
    if (!place) return weight;
    const down = this.#adapters.tensor<tf.Rank.R2>(`${place.name}.lora_A.weight`); // [in, rank]
    const up = this.#adapters.tensor<tf.Rank.R2>(`${place.name}.lora_B.weight`); // [rank, out]
    return tf.tidy(() => tf.add(weight, tf.mul(tf.matMul(down, up), place.scale)));
  }
}
