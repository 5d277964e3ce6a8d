// The sampling grid of a volume: how many voxels, and where each one lies in the patient. Two files belong together
// only when their grids agree, so the comparison lives here with its tolerance.

import { assert } from "@consilium/shared/base/assert.ts";
import { type Affine, added, length, scaled, spacingOf, toWorld, type Vec3 } from "./affine.ts";

/** Grids count as one when no corner voxel is further apart than this share of the smallest voxel edge. */
const GRID_TOLERANCE_VOXELS = 0.1;

export interface Grid {
  /** Voxels along i, j, k; i is the fastest in memory. */
  readonly shape: Vec3;
  readonly affine: Affine;
  readonly spacingMm: Vec3;
}

export function makeGrid(shape: Vec3, affine: Affine): Grid {
  assert(
    shape.every((size) => Number.isInteger(size) && size > 0),
    "a grid has at least one voxel along every axis",
  );
  return Object.freeze({ shape, affine, spacingMm: spacingOf(affine) });
}

export function voxelCount(grid: Grid): number {
  return grid.shape[0] * grid.shape[1] * grid.shape[2];
}

/** Whether two grids have the same shape and, within the tolerance, the same place in the patient. */
export function isSameGrid(a: Grid, b: Grid): boolean {
  if (a.shape.some((size, axis) => size !== b.shape[axis])) return false;
  const toleranceMm = GRID_TOLERANCE_VOXELS * Math.min(...a.spacingMm, ...b.spacingMm);
  return corners(a.shape).every((corner) => {
    const gap = added(toWorld(a.affine, corner), scaled(toWorld(b.affine, corner), -1));
    return length(gap) <= toleranceMm;
  });
}

function corners(shape: Vec3): Vec3[] {
  const ends = (size: number): number[] => [0, size - 1];
  return ends(shape[0]).flatMap((i) =>
    ends(shape[1]).flatMap((j) => ends(shape[2]).map((k): Vec3 => [i, j, k])),
  );
}
