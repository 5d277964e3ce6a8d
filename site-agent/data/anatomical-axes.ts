// Which voxel axis runs along which direction of the body. Every grid that is not turned by exactly 45 degrees has one
// best answer: a permutation and three signs, 48 possibilities in all.

import { type Affine, AXES, type Axis, length, type Vec3 } from "./affine.ts";

export interface AnatomicalAxes {
  /** For R, A and S in turn: the voxel axis that runs along it. */
  readonly voxelAxes: readonly [Axis, Axis, Axis];
  /** For R, A and S in turn: whether the index grows the other way (towards L, P, I). */
  readonly isReversed: readonly [boolean, boolean, boolean];
}

const PERMUTATIONS: readonly (readonly [Axis, Axis, Axis])[] = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
];

/** The assignment with the largest sum of cosines; of equals, the first in a fixed order. */
export function anatomicalAxes(affine: Affine): AnatomicalAxes {
  let voxelAxes = PERMUTATIONS[0] ?? [0, 1, 2];
  let best = Number.NEGATIVE_INFINITY;
  for (const candidate of PERMUTATIONS) {
    const score = AXES.reduce<number>(
      (sum, world) => sum + Math.abs(cosine(affine, candidate[world], world)),
      0,
    );
    if (score > best + 1e-9) {
      best = score;
      voxelAxes = candidate;
    }
  }
  const reversed = (world: Axis): boolean => cosine(affine, voxelAxes[world], world) < 0;
  return { voxelAxes, isReversed: [reversed(0), reversed(1), reversed(2)] };
}

/** Values given per voxel axis, put in the order R, A, S. */
export function inAnatomicalOrder(values: Vec3, axes: AnatomicalAxes): Vec3 {
  const [r, a, s] = axes.voxelAxes;
  return [values[r], values[a], values[s]];
}

function cosine(affine: Affine, voxelAxis: Axis, worldAxis: Axis): number {
  const column = affine.columns[voxelAxis];
  return column[worldAxis] / length(column);
}
