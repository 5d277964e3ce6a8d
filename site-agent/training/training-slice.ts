// What training sees of a case: one slice, its labels, and which labels were drawn in it at all. A batch of slices
// becomes tensors here, with the study's labels turned into class indices.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import { tf } from "../backend/tensors.ts";
import type { SegmentationTarget } from "./losses.ts";

export type TrainingSlice = {
  /** [H, W, C], normalised. */
  readonly image: Float32Array;
  /** [H, W], ids of the study's labels, 0 for background. */
  readonly labels: Uint8Array;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** Ids of the labels that were drawn in this case; only of these does 0 say "not here". */
  readonly contoured: readonly number[];
};

export type TrainingBatch = { readonly images: tf.Tensor4D; readonly target: SegmentationTarget };

export type TrainingErrorCode =
  | "training.no-slices"
  | "training.slice-size"
  | "training.label-unknown"
  | "training.diverged";

export class TrainingError extends Error {
  override name = "TrainingError";
  readonly code: TrainingErrorCode;

  constructor(code: TrainingErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/**
 * Tensors that belong to the caller.
 * @param labels id of each class, background first
 * @throws TrainingError for slices of different sizes and for labels outside the study
 */
export function batchTensors(slices: readonly TrainingSlice[], labels: readonly number[]): TrainingBatch {
  const { height, width, channels } = expectDefined(slices[0], "a batch holds a slice");
  const pixels = height * width;
  const classOf = classTable(labels);
  const images = new Float32Array(slices.length * pixels * channels);
  const classes = new Int32Array(slices.length * pixels);
  const drawn = new Float32Array(slices.length * labels.length);
  slices.forEach((slice, index) => {
    expectSize(slice, { height, width, channels });
    images.set(slice.image, index * pixels * channels);
    classes.set(classIndices(slice.labels, classOf), index * pixels);
    labels.forEach((label, k) => {
      drawn[index * labels.length + k] = k === 0 || slice.contoured.includes(label) ? 1 : 0;
    });
  });
  return {
    images: tf.tensor4d(images, [slices.length, height, width, channels]),
    target: {
      classes: tf.tensor3d(classes, [slices.length, height, width], "int32"),
      drawn: tf.tensor2d(drawn, [slices.length, labels.length]),
    },
  };
}

export function disposeBatch({ images, target }: TrainingBatch): void {
  tf.dispose([images, target.classes, target.drawn]);
}

const UNKNOWN_CLASS = 255;
const LABEL_COUNT = 256;

/** @throws TrainingError for a label outside the study */
export function classIndices(found: Uint8Array, classOf: Uint8Array): Uint8Array {
  return found.map((label) => {
    const index = classOf[label] ?? UNKNOWN_CLASS;
    if (index === UNKNOWN_CLASS) throw unknownLabel();
    return index;
  });
}

/** Class index of every label id; background is the first class. */
export function classTable(labels: readonly number[]): Uint8Array {
  assert(labels[0] === 0, "background is the first class");
  assert(labels.length < UNKNOWN_CLASS, "class indices fit into a byte");
  const table = new Uint8Array(LABEL_COUNT).fill(UNKNOWN_CLASS);
  labels.forEach((label, k) => {
    table[label] = k;
  });
  return table;
}

function expectSize(
  slice: TrainingSlice,
  size: { readonly height: number; readonly width: number; readonly channels: number },
): void {
  const { height, width, channels } = size;
  const pixels = height * width;
  const same = slice.height === height && slice.width === width && slice.channels === channels;
  if (same && slice.image.length === pixels * channels && slice.labels.length === pixels) return;
  const message =
    "The slices of a batch differ in size: the study's preprocessing must give them all one size.";
  throw new TrainingError("training.slice-size", message);
}

function unknownLabel(): TrainingError {
  const message = "A slice holds a label that the study does not have: check the site's label mapping.";
  return new TrainingError("training.label-unknown", message);
}
