// What an imaging machine does to a drawn volume: blurs edges within a slice, lets the brightness change slowly over the
// image, and adds noise.

import type { Prng } from "@consilium/shared/base/prng.ts";
import type { StackSize } from "../prompts/slice-size.ts";

/** Weights 1/4, 1/2, 1/4 along rows and columns of every slice, in place; the border repeats. */
export function blurInPlane(image: Float32Array, { depth, height, width }: StackSize): void {
  for (let z = 0; z < depth; z += 1) {
    const slice = z * height * width;
    for (let y = 0; y < height; y += 1) blurLine(image, slice + y * width, { step: 1, count: width });
    for (let x = 0; x < width; x += 1) blurLine(image, slice + x, { step: width, count: height });
  }
}

function blurLine(
  image: Float32Array,
  start: number,
  { step, count }: { readonly step: number; readonly count: number },
): void {
  let before = image[start] ?? 0;
  for (let place = 0; place < count; place += 1) {
    const at = start + place * step;
    const value = image[at] ?? 0;
    const after = place + 1 < count ? (image[at + step] ?? 0) : value;
    image[at] = 0.25 * before + 0.5 * value + 0.25 * after;
    before = value;
  }
}

/** Factors along each axis, whose product is the change of brightness at a voxel. */
export type BrightnessField = Readonly<Record<"x" | "y" | "z", Float64Array>>;

/** @param strength the logarithm of the largest change from one border to the other; 0 for none */
export function brightnessField(
  { depth, height, width }: StackSize,
  strength: number,
  prng: Prng,
): BrightnessField {
  const along = (count: number): Float64Array => {
    const slope = prng.uniform(-strength, strength);
    return Float64Array.from({ length: count }, (_, place) => Math.exp(slope * (place / count - 0.5)));
  };
  return { x: along(width), y: along(height), z: along(depth) };
}

export type Acquisition = {
  readonly size: StackSize;
  readonly prng: Prng;
  /** Brightness 0.5 becomes `middle`, and differences are scaled by `contrast`. */
  readonly contrast: number;
  readonly middle: number;
  readonly field: BrightnessField;
};

/** In place; the result lies between 0 and 1. */
export function addNoise(
  image: Float32Array,
  { size, prng, contrast, middle, field }: Acquisition,
  deviation: (voxel: number) => number,
): void {
  let voxel = 0;
  for (let z = 0; z < size.depth; z += 1) {
    for (let y = 0; y < size.height; y += 1) {
      const factor = (field.z[z] ?? 1) * (field.y[y] ?? 1);
      for (let x = 0; x < size.width; x += 1) {
        const clean = middle + contrast * ((image[voxel] ?? 0) - 0.5);
        const value = clean * factor * (field.x[x] ?? 1) + deviation(voxel) * prng.normal();
        image[voxel] = Math.min(1, Math.max(0, value));
        voxel += 1;
      }
    }
  }
}
