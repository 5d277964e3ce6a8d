// The slices of one clip, encoded for its questions and differentiated once these have been answered. Where the backend
// runs compiled graphs, what the gradients need of the encoding is kept, as far as there is room, and a slice is encoded
// once; elsewhere the gradients encode again.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { chunks } from "@consilium/shared/base/chunks.ts";
import { GiB } from "@consilium/shared/base/units.ts";
import { disposeOnError } from "../../backend/dispose-on-error.ts";
import type { BegunStep } from "../../backend/graph/compile-step.ts";
import { runsGraphs } from "../../backend/graph/graph-compiler.ts";
import { tf } from "../../backend/tensors.ts";
import type { ImageFeatures } from "../../models/sam2/image-encoder.ts";
import type { ClipGradients, PartGradients } from "./clip-gradients.ts";
import type { SliceEncoder } from "./clip-port.ts";
import { disposeFeatures, featuresOfSlices, type Rfmedsam2, type SliceImage } from "./model.ts";
import { filledUp } from "./question-batch.ts";

/** Kept of one clip, at most. */
const KEPT_BYTES_MAX = 2 * GiB;

type EncodedBatch = {
  readonly slices: readonly SliceImage[];
  readonly images: tf.Tensor4D;
  readonly begun: BegunStep;
};

export class ClipEncoding implements SliceEncoder {
  readonly #model: Rfmedsam2;
  readonly #gradients: ClipGradients;
  readonly #batches: EncodedBatch[] = [];
  #keptBytes = 0;

  constructor(model: Rfmedsam2, gradients: ClipGradients) {
    this.#model = model;
    this.#gradients = gradients;
  }

  encode(slices: readonly SliceImage[]): ImageFeatures[] {
    return chunks(slices, this.#model.slicesAtOnce).flatMap(
      (batch) => this.#begun(batch) ?? this.#model.encode(batch),
    );
  }

  /** Part by part. @param gradients of the features of slices that were asked about, [1, ...] each */
  *differentiate(gradients: ReadonlyMap<SliceImage, ImageFeatures>): Generator<PartGradients> {
    const left = new Set(gradients.keys());
    for (const batch of this.#batches) {
      const own = batch.slices.map((slice) => gradients.get(slice));
      if (own.every((one) => one === undefined)) continue;
      for (const slice of batch.slices) left.delete(slice);
      yield disposeOnError(() => this.#gradients.finish(batch, own));
    }
    for (const slices of chunks([...left], this.#model.slicesAtOnce)) {
      const own = slices.map((slice) => expectDefined(gradients.get(slice), "gradients of a slice"));
      yield disposeOnError(() => this.#gradients.ofImages(slices, own));
    }
  }

  dispose(): void {
    for (const { images, begun } of this.#batches) tf.dispose([images, [...begun.tensors]]);
    this.#batches.length = 0;
    this.#keptBytes = 0;
  }

  #begun(slices: readonly SliceImage[]): ImageFeatures[] | null {
    if (!runsGraphs() || this.#keptBytes >= KEPT_BYTES_MAX) return null;
    const images = this.#model.images(filledUp(slices, this.#model.slicesAtOnce));
    const found = this.#gradients.begin(images);
    if (!found) {
      images.dispose();
      return null;
    }
    this.#batches.push({ slices, images, begun: found.begun });
    this.#keptBytes += found.begun.tensors.reduce((sum, { size }) => sum + 4 * size, 0); // Of four bytes each.
    const features = tf.tidy(() => featuresOfSlices(found.features, slices.length));
    disposeFeatures(found.features);
    return features;
  }
}
