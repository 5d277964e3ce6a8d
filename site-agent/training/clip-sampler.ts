// Which clips of consecutive slices the next batch holds. Every clip has its middle at a drawn slice, as far as the case
// reaches; middles are drawn as single slices are, so that a third of a batch at least shows an organ.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { Prng } from "@consilium/shared/base/prng.ts";
import { SliceSampler } from "./slice-sampler.ts";
import type { TrainingSlice } from "./training-slice.ts";

type Place = { readonly slices: readonly TrainingSlice[]; readonly index: number };

export class ClipSampler {
  readonly #middles: SliceSampler;
  readonly #places: ReadonlyMap<TrainingSlice, Place>;
  readonly #length: number;

  /** @throws TrainingError when there is nothing to draw from. */
  constructor(cases: readonly (readonly TrainingSlice[])[], length: number, prng: Prng) {
    this.#middles = new SliceSampler(cases.flat(), prng);
    this.#places = new Map(
      cases.flatMap((slices) => slices.map((slice, index) => [slice, { slices, index }] as const)),
    );
    this.#length = length;
  }

  /** Clips of the wanted length, or shorter where a case is. */
  draw(count: number): TrainingSlice[][] {
    return this.#middles.draw(count).map((middle) => {
      const { slices, index } = expectDefined(this.#places.get(middle), "place of a slice");
      const last = Math.max(0, slices.length - this.#length);
      const start = Math.min(Math.max(0, index - Math.floor(this.#length / 2)), last);
      return slices.slice(start, start + this.#length);
    });
  }
}
