// Gradients of the adapters' tensors for questions about a clip, taken in two halves that meet at the features of slices:
// from the loss of a batch of questions back to the features that they looked at, and from the features back into the
// image encoder. Each half is one computation of named tensors, compiled where the backend can; no more is held at a time
// than one batch needs, and a slice is encoded once however much is asked about it.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import {
  type BegunStep,
  type CompiledStep,
  type CompileOptions,
  compileStep,
} from "../../backend/graph/compile-step.ts";
import { runsGraphs } from "../../backend/graph/graph-compiler.ts";
import { joinedRows } from "../../backend/joined-rows.ts";
import { tf } from "../../backend/tensors.ts";
import type { ImageFeatures } from "../../models/sam2/image-encoder.ts";
import { type MaskLossSettings, maskLosses } from "../../models/sam2/mask-losses.ts";
import { disposeFeatures, type Rfmedsam2, type SliceImage } from "./model.ts";
import {
  FEATURE_NAMES,
  featuresOf,
  filledUp,
  namedFeatures,
  questionCount,
  type SliceQuestion,
} from "./question-batch.ts";

export type PartGradients = {
  /** Of the tensors that training changes in SAM 2 and its adapters, in their order; none where the part does not depend on one. */
  readonly refiner: readonly (tf.Tensor | undefined)[];
};

export type QuestionGradients = PartGradients & {
  readonly loss: tf.Scalar;
  /** Of the features that each question looked at, as one batch. */
  readonly features: ImageFeatures;
};

export type QuestionTargets = {
  /** Shares of the mask's cells that the object covers, [questions, grid, grid]. */
  readonly masks: Float32Array;
  /** What each question counts in the loss, which is the sum over questions. */
  readonly counts: readonly number[];
};

export class ClipGradients {
  readonly #model: Rfmedsam2;
  readonly #settings: MaskLossSettings;
  readonly #questions: CompiledStep<tf.NamedTensorMap>;
  readonly #images: CompiledStep<tf.NamedTensorMap>;

  constructor(model: Rfmedsam2, settings: MaskLossSettings, onWarning?: CompileOptions["onWarning"]) {
    this.#model = model;
    this.#settings = settings;
    const reads = (): tf.Tensor[] => model.weightTensors();
    const options = (name: string): CompileOptions => ({ name, reads, ...(onWarning && { onWarning }) });
    this.#questions = compileStep(
      (tensors) => this.#differentiatedQuestions(tensors),
      options("gradients of questions"),
    );
    this.#images = compileStep((tensors) => this.#differentiatedImages(tensors), {
      ...options("gradients of images"),
      later: FEATURE_NAMES,
    });
  }

  /** All results belong to the caller. @param questions of one form @param sliceCount slices of the clip */
  ofQuestions(
    questions: readonly SliceQuestion[],
    sliceCount: number,
    { masks, counts }: QuestionTargets,
  ): QuestionGradients {
    const { height, width } = this.#model.sizes.maskGrid;
    return tf.tidy(() => {
      const tensors = this.#model.questionTensors(questions, sliceCount);
      const count = questionCount(tensors);
      const [targets, shares] = [new Float32Array(count * height * width), new Float32Array(count)];
      targets.set(masks);
      shares.set(counts);
      const found = this.#questions.run({
        ...tensors,
        targets: tf.tensor3d(targets, [count, height, width]),
        counts: tf.tensor2d(shares, [count, 1]),
      });
      const loss = expectDefined(found["loss"], "the loss") as tf.Scalar; // As it was named.
      return { loss, refiner: this.#refinerGradients(found), features: featuresOf(found) };
    });
  }

  /** All results belong to the caller. @param gradients of the features of every slice, [1, ...] each */
  ofImages(slices: readonly SliceImage[], gradients: readonly ImageFeatures[]): PartGradients {
    return tf.tidy(() => {
      const count = runsGraphs() ? this.#model.slicesAtOnce : slices.length;
      const first = expectDefined(gradients[0], "a gradient");
      const missing = Array.from({ length: count - slices.length }, () => zeros(first));
      const found = this.#images.run({
        images: this.#model.images(filledUp(slices, count)),
        ...joinedRows([...gradients, ...missing].map(namedFeatures)),
      });
      return this.#imageGradients(found);
    });
  }

  /**
   * The features of images as one batch, encoded so that the gradients need not encode them again; null where that cannot
   * be. All belong to the caller. @param images [slices, S, S, 3]
   */
  begin(images: tf.Tensor4D): { readonly features: ImageFeatures; readonly begun: BegunStep } | null {
    const found = this.#images.begin({ images });
    return found && { features: featuresOf(found.outputs as tf.NamedTensorMap), begun: found.begun }; // Each of them.
  }

  /** All results belong to the caller. @param gradients of the features of every slice, [1, ...] each; none counts nothing */
  finish(
    { images, begun }: { readonly images: tf.Tensor4D; readonly begun: BegunStep },
    gradients: readonly (ImageFeatures | undefined)[],
  ): PartGradients {
    return tf.tidy(() => {
      const some = expectDefined(
        gradients.find((one) => one !== undefined),
        "a gradient",
      );
      const all = Array.from({ length: images.shape[0] }, (_, index) => gradients[index] ?? zeros(some));
      const found = this.#images.finish(begun, { images, ...joinedRows(all.map(namedFeatures)) });
      return this.#imageGradients(found as tf.NamedTensorMap); // Those that there are.
    });
  }

  dispose(): void {
    this.#questions.dispose();
    this.#images.dispose();
  }

  #differentiatedQuestions(tensors: tf.NamedTensorMap): tf.NamedTensorMap {
    const { targets, counts, ...given } = tensors;
    const features = namedFeatures(featuresOf(given));
    const loss = (): tf.Scalar => {
      const answer = this.#model.predict(given);
      const truth = targets as tf.Tensor3D; // As given above.
      const { total } = maskLosses(answer, truth, this.#settings, counts as tf.Tensor2D); // As given above.
      return tf.mul(total, truth.shape[0]); // A sum, not a mean.
    };
    const refiner = this.#model.refinerTensors();
    const { value, grads } = gradientsOf(loss, [...refiner, ...Object.values(features)]);
    const own = grads.slice(refiner.length);
    return {
      loss: value,
      ...numbered(grads.slice(0, refiner.length)),
      ...Object.fromEntries(
        Object.entries(features).map(([name, tensor], index) => [name, own[index] ?? tf.zerosLike(tensor)]),
      ),
    };
  }

  #differentiatedImages({ images, ...tensors }: tf.NamedTensorMap): tf.NamedTensorMap {
    const wanted = namedFeatures(featuresOf(tensors));
    let features: tf.NamedTensorMap = {};
    const product = (): tf.Scalar => {
      const found = this.#model.features(images as tf.Tensor4D); // As given above.
      // The engine would free them with everything else that leads to the value.
      features = namedFeatures(mapped(found, (tensor) => tf.keep(tf.clone(tensor))));
      const each = Object.entries(namedFeatures(found)).map(([name, tensor]) =>
        tf.sum(tf.mul(tensor, expectDefined(wanted[name], name))),
      );
      return tf.addN(each) as tf.Scalar; // A sum of scalars.
    };
    const { value, grads } = gradientsOf(product, this.#model.refinerTensors());
    value.dispose();
    return { ...features, ...numbered(grads) };
  }

  /** Frees the features, which were kept by hand. */
  #imageGradients(found: tf.NamedTensorMap): { refiner: (tf.Tensor | undefined)[] } {
    tf.dispose(FEATURE_NAMES.flatMap((name) => found[name] ?? []));
    return { refiner: this.#refinerGradients(found) };
  }

  #refinerGradients(found: tf.NamedTensorMap): (tf.Tensor | undefined)[] {
    return this.#model.refinerTensors().map((_, index) => found[gradientName(index)]);
  }
}

/** Undefined where the loss does not depend on a tensor. */
function gradientsOf(
  loss: () => tf.Scalar,
  tensors: tf.Tensor[],
): { value: tf.Scalar; grads: (tf.Tensor | undefined)[] } {
  const { value, grads } = tf.engine().gradients(loss, tensors, undefined, true);
  return { value: value as tf.Scalar, grads }; // As given.
}

function gradientName(index: number): string {
  return `gradient ${index}`;
}

function numbered(gradients: readonly (tf.Tensor | undefined)[]): tf.NamedTensorMap {
  const named = gradients.flatMap((gradient, index) =>
    gradient ? [[gradientName(index), gradient] as const] : [],
  );
  return Object.fromEntries(named);
}

/** Gradients of the features of single slices, [1, ...] each, from all questions about them. */
export class FeatureGradients {
  readonly #sums = new Map<number, ImageFeatures>();

  /** @param gradients of each question as one batch @param slices that the questions are about */
  add(gradients: ImageFeatures, slices: readonly number[]): void {
    slices.forEach((slice, index) => {
      const old = this.#sums.get(slice);
      const sum = tf.tidy(() =>
        added(
          old,
          mapped(gradients, (tensor) => tf.slice(tensor, index, 1)),
        ),
      );
      if (old) disposeFeatures(old);
      this.#sums.set(slice, sum);
    });
  }

  slices(): number[] {
    return [...this.#sums.keys()];
  }

  of(slice: number): ImageFeatures {
    return expectDefined(this.#sums.get(slice), "gradients of a slice");
  }

  dispose(): void {
    for (const sum of this.#sums.values()) disposeFeatures(sum);
    this.#sums.clear();
  }
}

function mapped(
  { embedding, fine }: ImageFeatures,
  change: (tensor: tf.Tensor4D) => tf.Tensor4D,
): ImageFeatures {
  return { embedding: change(embedding), fine: fine && [change(fine[0]), change(fine[1])] };
}

function zeros(features: ImageFeatures): ImageFeatures {
  return mapped(features, (tensor) => tf.zerosLike(tensor));
}

function added(sum: ImageFeatures | undefined, more: ImageFeatures): ImageFeatures {
  if (!sum) return more;
  return {
    embedding: tf.add(sum.embedding, more.embedding),
    fine: sum.fine && more.fine && [tf.add(sum.fine[0], more.fine[0]), tf.add(sum.fine[1], more.fine[1])],
  };
}
