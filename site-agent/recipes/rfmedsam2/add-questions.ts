// The gradients of the adapters for everything that is asked about one clip: batch by batch of questions back to the
// features of slices, then once for every slice that was asked about into the image encoder.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { disposeOnError } from "../../backend/dispose-on-error.ts";
import type { GradientSum } from "../../training/gradient-sum.ts";
import type { ClipEncoding } from "./clip-encoding.ts";
import { type ClipGradients, FeatureGradients, type QuestionTargets } from "./clip-gradients.ts";
import type { ClipPort } from "./clip-port.ts";
import type { Asking } from "./frame-question.ts";
import { disposeFeatures, type Rfmedsam2, type SliceImage } from "./model.ts";
import { batchesOf } from "./question-batch.ts";

export type AskedSlice = Asking & { readonly slice: number };

export type AskedClip<Asked extends AskedSlice> = {
  readonly model: Rfmedsam2;
  readonly gradients: ClipGradients;
  /** With which the port encodes. */
  readonly encoding: ClipEncoding;
  readonly slices: readonly SliceImage[];
  /** Its features are given up. */
  readonly port: ClipPort;
  readonly targetsOf: (asked: readonly Asked[]) => QuestionTargets;
};

/** Adds to `sum` the loss of all questions, each as it counts, and its gradients. */
export function addQuestions<Asked extends AskedSlice>(
  sum: GradientSum,
  asked: readonly Asked[],
  { model, gradients, encoding, slices, port, targetsOf }: AskedClip<Asked>,
): void {
  const features = new FeatureGradients();
  try {
    for (const batch of batchesOf(port.questions(asked), model.batching)) {
      const targets = targetsOf(batch.map(({ of }) => of));
      const found = disposeOnError(() => gradients.ofQuestions(batch, slices.length, targets));
      sum.add(found.refiner, found.loss);
      const about = batch.map(({ of }) => of.slice);
      features.add(found.features, about);
      disposeFeatures(found.features);
    }
    port.dispose(); // The image encoder is differentiated by itself.
    const own = features
      .slices()
      .map((slice) => [expectDefined(slices[slice], "slice of the clip"), features.of(slice)] as const);
    for (const { refiner } of encoding.differentiate(new Map(own))) sum.add(refiner);
  } finally {
    features.dispose();
  }
}
