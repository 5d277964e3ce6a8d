// The trained tensors of a model of parts, under the names that an update gives them: the part's, a dot, the tensor's own.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { tf } from "../../backend/tensors.ts";
import type { TrainedParameters } from "../recipe.ts";

export class PartedParameters implements TrainedParameters {
  readonly trainableNames: readonly string[];
  readonly learningRateShares: ReadonlyMap<string, number>;
  readonly #parts: ReadonlyMap<string, TrainedParameters>;

  /** @param names of all parts' trained tensors, in the order of an update @param shares of the learning rate, by name */
  constructor(
    names: readonly string[],
    shares: ReadonlyMap<string, number>,
    parts: Readonly<Record<string, TrainedParameters>>,
  ) {
    this.trainableNames = names;
    this.learningRateShares = shares;
    this.#parts = new Map(Object.entries(parts));
  }

  trainable(): Map<string, tf.Tensor> {
    const tensors = new Map<string, tf.Tensor>(
      [...this.#parts].flatMap(([part, parameters]) =>
        [...parameters.trainable()].map(([name, tensor]) => [`${part}.${name}`, tensor] as const),
      ),
    );
    return new Map(this.trainableNames.map((name) => [name, expectDefined(tensors.get(name), name)]));
  }

  replace(tensors: ReadonlyMap<string, tf.Tensor>): void {
    for (const [part, parameters] of this.#parts) {
      const own = [...tensors].filter(([name]) => name.startsWith(`${part}.`));
      parameters.replace(new Map(own.map(([name, tensor]) => [name.slice(part.length + 1), tensor])));
    }
  }

  async export(names: readonly string[]): Promise<Map<string, Float32Array>> {
    const weights = new Map<string, Float32Array>();
    for (const name of names) {
      const [part = ""] = name.split(".");
      const own = name.slice(part.length + 1);
      const exported = await expectDefined(this.#parts.get(part), `part of ${name}`).export([own]);
      weights.set(name, expectDefined(exported.get(own), name));
    }
    return weights;
  }
}
