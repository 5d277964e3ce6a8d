// A volume of intensities and a map of labels, each on its grid. Both are values: whoever makes one hands over the
// array and nobody writes into it afterwards.

import { assert } from "@consilium/shared/base/assert.ts";
import { type Grid, voxelCount } from "./grid.ts";

export interface Volume {
  readonly grid: Grid;
  /** Intensities in the file's scaled units (HU for CT), i fastest. All finite. */
  readonly voxels: Float32Array;
}

export interface Labelmap {
  readonly grid: Grid;
  /** Label of each voxel, 0 for background, i fastest. */
  readonly voxels: Uint8Array;
}

export function makeVolume(grid: Grid, voxels: Float32Array): Volume {
  assert(voxels.length === voxelCount(grid), "a volume has one intensity per voxel of its grid");
  return Object.freeze({ grid, voxels });
}

export function makeLabelmap(grid: Grid, voxels: Uint8Array): Labelmap {
  assert(voxels.length === voxelCount(grid), "a label map has one label per voxel of its grid");
  return Object.freeze({ grid, voxels });
}

/** Voxels per label, index = label, 256 entries. */
export function labelCounts(labelmap: Labelmap): Uint32Array {
  const counts = new Uint32Array(256);
  const { voxels } = labelmap;
  for (let index = 0; index < voxels.length; index += 1) {
    const label = voxels[index] ?? 0;
    counts[label] = (counts[label] ?? 0) + 1;
  }
  return counts;
}

/** The labels other than background that occur, ascending. */
export function labelsPresent(labelmap: Labelmap): number[] {
  const counts = labelCounts(labelmap);
  return Array.from(counts.keys()).filter((label) => label > 0 && (counts[label] ?? 0) > 0);
}
