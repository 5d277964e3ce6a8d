// Points as prompts: on an object, beside it, and where a prediction is wrong. Drawn uniformly and seeded.

import { assert } from "@consilium/shared/base/assert.ts";
import type { Prng } from "@consilium/shared/base/prng.ts";
import type { SliceSize } from "./slice-size.ts";

/** Pixel indices; `isPositive` says that the point lies on the object. */
export type PromptPoint = { readonly x: number; readonly y: number; readonly isPositive: boolean };

/**
 * Uniform points on and beside an object, in that order. An object without a pixel gives no positive point, and one
 * that fills the slice no negative point.
 * @param mask [height, width]
 */
export function uniformPoints(
  mask: Uint8Array,
  { positiveCount, negativeCount }: { readonly positiveCount: number; readonly negativeCount: number },
  { size, prng }: { readonly size: SliceSize; readonly prng: Prng },
): PromptPoint[] {
  const inside = pixelsWhere(mask, (value) => value !== 0);
  const outside = pixelsWhere(mask, (value) => value === 0);
  return [
    ...drawn(inside, positiveCount, prng).map((pixel) => pointAt(pixel, { size, isPositive: true })),
    ...drawn(outside, negativeCount, prng).map((pixel) => pointAt(pixel, { size, isPositive: false })),
  ];
}

/**
 * Uniform points where a prediction is wrong: positive where the object was missed, negative where there is none. Without
 * an error the points are negative and lie beside the object (SAM 2, training/utils, error-sampled clicks).
 */
export function correctionPoints(
  { truth, predicted }: { readonly truth: Uint8Array; readonly predicted: Uint8Array },
  count: number,
  { size, prng }: { readonly size: SliceSize; readonly prng: Prng },
): PromptPoint[] {
  assert(truth.length === predicted.length, "truth and prediction cover one slice");
  const wrong = pixelsWhere(truth, (value, pixel) => (value !== 0) !== (predicted[pixel] !== 0));
  const from = wrong.length > 0 ? wrong : pixelsWhere(truth, (value) => value === 0);
  return drawn(from, count, prng).map((pixel) => pointAt(pixel, { size, isPositive: truth[pixel] !== 0 }));
}

function pixelsWhere(mask: Uint8Array, holds: (value: number, pixel: number) => boolean): number[] {
  const pixels: number[] = [];
  mask.forEach((value, pixel) => {
    if (holds(value, pixel)) pixels.push(pixel);
  });
  return pixels;
}

/** With repetition, as SAM 2 draws. */
function drawn(pixels: readonly number[], count: number, prng: Prng): number[] {
  return pixels.length === 0 ? [] : Array.from({ length: count }, () => prng.pick(pixels));
}

function pointAt(
  pixel: number,
  { size, isPositive }: { readonly size: SliceSize; readonly isPositive: boolean },
): PromptPoint {
  return { x: pixel % size.width, y: Math.floor(pixel / size.width), isPositive };
}
