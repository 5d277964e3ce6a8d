// Turns voxel arrays to the canonical axes (i to the right, j to the front, k to the head) and back. Axes are permuted
// and reversed only: no value changes, so the way back is exact for every orientation.

import { assert } from "@consilium/shared/base/assert.ts";
import type { Vec3 } from "../data/affine.ts";
import { type AnatomicalAxes, inAnatomicalOrder } from "../data/anatomical-axes.ts";

export type Voxels = Float32Array | Uint8Array;

/**
 * @param voxels on the file's own grid, i fastest.
 * @param shape of that grid.
 * @returns the same values in canonical order; its shape is `inAnatomicalOrder(shape, axes)`.
 */
export function toCanonical(voxels: Float32Array, shape: Vec3, axes: AnatomicalAxes): Float32Array;
export function toCanonical(voxels: Uint8Array, shape: Vec3, axes: AnatomicalAxes): Uint8Array;
export function toCanonical(voxels: Voxels, shape: Vec3, axes: AnatomicalAxes): Voxels {
  const canonical = emptyLike(voxels, shape);
  walk(shape, axes, (from, to) => {
    canonical[to] = voxels[from] ?? 0;
  });
  return canonical;
}

/** The way back from `toCanonical`. @param shape of the file's own grid. */
export function fromCanonical(canonical: Float32Array, shape: Vec3, axes: AnatomicalAxes): Float32Array;
export function fromCanonical(canonical: Uint8Array, shape: Vec3, axes: AnatomicalAxes): Uint8Array;
export function fromCanonical(canonical: Voxels, shape: Vec3, axes: AnatomicalAxes): Voxels {
  const voxels = emptyLike(canonical, shape);
  walk(shape, axes, (from, to) => {
    voxels[from] = canonical[to] ?? 0;
  });
  return voxels;
}

/** Every voxel once, in canonical memory order: its place on the file's grid and its canonical place. */
function walk(shape: Vec3, axes: AnatomicalAxes, visit: (from: number, to: number) => void): void {
  const strides: Vec3 = [1, shape[0], shape[0] * shape[1]];
  const sizes = inAnatomicalOrder(shape, axes);
  const steps = inAnatomicalOrder(strides, axes);
  const start = (world: 0 | 1 | 2): number =>
    axes.isReversed[world] ? (sizes[world] - 1) * steps[world] : 0;
  const step = (world: 0 | 1 | 2): number => (axes.isReversed[world] ? -steps[world] : steps[world]);
  const [stepR, stepA, stepS] = [step(0), step(1), step(2)];
  let to = 0;
  for (let s = 0; s < sizes[2]; s += 1) {
    for (let a = 0; a < sizes[1]; a += 1) {
      let from = start(0) + start(1) + a * stepA + start(2) + s * stepS;
      for (let r = 0; r < sizes[0]; r += 1) {
        visit(from, to);
        from += stepR;
        to += 1;
      }
    }
  }
}

function emptyLike(voxels: Voxels, shape: Vec3): Voxels {
  const count = shape[0] * shape[1] * shape[2];
  assert(voxels.length === count, "the voxels fill their shape");
  return voxels instanceof Float32Array ? new Float32Array(count) : new Uint8Array(count);
}
