// Resizes one plane of numbers with a triangle filter whose width follows the scale: PyTorch's bilinear interpolation
// with antialiasing and without aligned corners. Enlarging, this is plain bilinear interpolation.

import { assert } from "@consilium/shared/base/assert.ts";
import { pixelsOf, type SliceSize } from "./slice-size.ts";

/** What one output position sees along one axis. */
type Tap = { readonly start: number; readonly weights: readonly number[] };

/** @param plane [from.height, from.width] @returns [to.height, to.width] */
export function resizedPlane(plane: Float32Array, from: SliceSize, to: SliceSize): Float32Array {
  assert(plane.length === pixelsOf(from), "the plane has its size");
  if (from.height === to.height && from.width === to.width) return plane.slice();
  const columns = taps(from.width, to.width);
  const rows = taps(from.height, to.height);
  const wide = new Float64Array(from.height * to.width);
  for (let y = 0; y < from.height; y += 1) {
    columns.forEach(({ start, weights }, x) => {
      wide[y * to.width + x] = weightedSum(plane, { at: y * from.width + start, step: 1, weights });
    });
  }
  const resized = new Float32Array(pixelsOf(to));
  rows.forEach(({ start, weights }, y) => {
    for (let x = 0; x < to.width; x += 1) {
      const at = start * to.width + x;
      resized[y * to.width + x] = weightedSum(wide, { at, step: to.width, weights });
    }
  });
  return resized;
}

function weightedSum(
  values: Float32Array | Float64Array,
  { at, step, weights }: { at: number; step: number; weights: readonly number[] },
): number {
  let sum = 0;
  for (let index = 0; index < weights.length; index += 1) {
    sum += (values[at + index * step] ?? 0) * (weights[index] ?? 0);
  }
  return sum;
}

function taps(from: number, to: number): Tap[] {
  const scale = from / to;
  const reach = Math.max(scale, 1);
  return Array.from({ length: to }, (_, index) => {
    const centre = scale * (index + 0.5);
    const start = Math.max(0, Math.trunc(centre - reach + 0.5));
    const end = Math.min(from, Math.trunc(centre + reach + 0.5));
    const raw = Array.from({ length: end - start }, (_unused, tap) =>
      Math.max(0, 1 - Math.abs(start + tap - centre + 0.5) / reach),
    );
    const total = raw.reduce((sum, weight) => sum + weight, 0);
    return { start, weights: raw.map((weight) => weight / total) };
  });
}
