// Which slices the next batch holds. At least a third of a batch shows an organ where the site has such slices (nnU-Net's
// oversampling); within each kind every slice is drawn once before any is drawn again.

import type { Prng } from "@consilium/shared/base/prng.ts";
import { TrainingError, type TrainingSlice } from "./training-slice.ts";

const FOREGROUND_SHARE_MIN = 1 / 3;

export class SliceSampler {
  readonly #all: Deck;
  readonly #foreground: Deck | undefined;

  /** @throws TrainingError when there is nothing to draw from. */
  constructor(slices: readonly TrainingSlice[], prng: Prng) {
    if (slices.length === 0) {
      throw new TrainingError("training.no-slices", "There are no training slices: check the site's cohort.");
    }
    const foreground = slices.filter(({ labels }) => labels.some((label) => label > 0));
    this.#all = new Deck(slices, prng);
    this.#foreground = foreground.length > 0 ? new Deck(foreground, prng) : undefined;
  }

  /** The slices of one batch; a small cohort repeats slices within it. */
  draw(batchSize: number): TrainingSlice[] {
    const certain = this.#foreground ? Math.ceil(batchSize * FOREGROUND_SHARE_MIN) : 0;
    return Array.from({ length: batchSize }, (_, place) =>
      place < certain && this.#foreground ? this.#foreground.next() : this.#all.next(),
    );
  }
}

/** Draws without putting back, and shuffles again when it is empty. */
class Deck {
  readonly #slices: readonly TrainingSlice[];
  readonly #prng: Prng;
  #rest: TrainingSlice[] = [];

  constructor(slices: readonly TrainingSlice[], prng: Prng) {
    this.#slices = slices;
    this.#prng = prng;
  }

  next(): TrainingSlice {
    const slice = this.#rest.pop();
    if (slice) return slice;
    this.#rest = this.#prng.shuffled(this.#slices);
    return this.next();
  }
}
