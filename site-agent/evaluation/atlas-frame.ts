// The common grid of an atlas and how a volume is laid over it: which point of the body is brought together, and which
// voxel of the one corresponds to which of the other.

import { assert } from "@consilium/shared/base/assert.ts";
import type { Axis, Vec3 } from "../data/affine.ts";
import { anatomicalAxes, inAnatomicalOrder } from "../data/anatomical-axes.ts";
import type { Volume } from "../data/volume.ts";
import { toCanonical } from "../preprocessing/orientation.ts";

/** What is laid over what: the volumes' middles, their outer edges, or the centres of mass of their bright voxels. */
export type AtlasAlignment = "middle" | "edges" | "brightness";

/** Canonical axes, i towards R fastest. */
export interface AtlasFrame {
  readonly shape: Vec3;
  readonly spacingMm: Vec3;
}

/** Median spacing, and the largest extent of any case. */
export function atlasFrame(volumes: readonly Volume[]): AtlasFrame {
  assert(volumes.length > 0, "an atlas is made from at least one case");
  const grids = volumes.map(canonicalGrid);
  const spacingMm = perAxis((axis) => {
    const sorted = grids.map((grid) => grid.spacingMm[axis]).sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)] ?? 1;
  });
  const extentMm = (axis: Axis): number =>
    Math.max(...grids.map((grid) => grid.shape[axis] * grid.spacingMm[axis]));
  return { shape: perAxis((axis) => Math.ceil(extentMm(axis) / spacingMm[axis])), spacingMm };
}

/** How indices along a volume's canonical axes and along the atlas correspond; both ways give fractional indices. */
export interface Placement {
  toFrame(index: number, axis: Axis): number;
  fromFrame(index: number, axis: Axis): number;
}

export function placement(volume: Volume, frame: AtlasFrame, alignment: AtlasAlignment): Placement {
  const { shape, spacingMm } = canonicalGrid(volume);
  const centre = alignment === "brightness" ? brightCentre(volume) : perAxis((axis) => middle(shape[axis]));
  const anchor = perAxis((axis) => middle(frame.shape[axis]));
  const scale = perAxis((axis) =>
    alignment === "edges" ? frame.shape[axis] / shape[axis] : spacingMm[axis] / frame.spacingMm[axis],
  );
  return {
    toFrame: (index, axis) => anchor[axis] + (index - centre[axis]) * scale[axis],
    fromFrame: (index, axis) => centre[axis] + (index - anchor[axis]) / scale[axis],
  };
}

export interface Correspondence {
  readonly shape: Vec3;
  readonly otherShape: Vec3;
  /** The fractional index of the other grid for an index of this one. */
  readonly map: (index: number, axis: Axis) => number;
}

/** Every voxel of `shape` whose nearest counterpart exists: `from` in the other grid, `to` in this one. */
export function forEachPair(
  { shape, otherShape, map }: Correspondence,
  visit: (from: number, to: number) => void,
): void {
  const [columns, rows, slabs] = perAxis((axis) => nearestIndices(shape[axis], otherShape[axis], axis, map));
  for (let s = 0; s < shape[2]; s += 1) {
    const slab = slabs[s] ?? -1;
    for (let a = 0; a < shape[1]; a += 1) {
      const row = rows[a] ?? -1;
      if (slab < 0 || row < 0) continue;
      const from = (slab * otherShape[1] + row) * otherShape[0];
      const to = (s * shape[1] + a) * shape[0];
      for (let r = 0; r < shape[0]; r += 1) {
        const column = columns[r] ?? -1;
        if (column >= 0) visit(from + column, to + r);
      }
    }
  }
}

/** -1 where the nearest index lies outside the other grid. */
function nearestIndices(size: number, otherSize: number, axis: Axis, map: Correspondence["map"]): Int32Array {
  return Int32Array.from({ length: size }, (_, index) => {
    const other = Math.floor(map(index, axis) + 0.5);
    return other >= 0 && other < otherSize ? other : -1;
  });
}

function canonicalGrid({ grid }: Volume): { shape: Vec3; spacingMm: Vec3 } {
  const axes = anatomicalAxes(grid.affine);
  return { shape: inAnatomicalOrder(grid.shape, axes), spacingMm: inAnatomicalOrder(grid.spacingMm, axes) };
}

/** Centre of mass, along the canonical axes, of the voxels brighter than the mean. */
function brightCentre(volume: Volume): Vec3 {
  const axes = anatomicalAxes(volume.grid.affine);
  const [nr, na, ns] = inAnatomicalOrder(volume.grid.shape, axes);
  const canonical = toCanonical(volume.voxels, volume.grid.shape, axes);
  const mean = canonical.reduce((sum, value) => sum + value, 0) / canonical.length;
  let [r, a, s, count] = [0, 0, 0, 0];
  for (let index = 0; index < canonical.length; index += 1) {
    if ((canonical[index] ?? 0) <= mean) continue;
    r += index % nr;
    a += Math.floor(index / nr) % na;
    s += Math.floor(index / (nr * na));
    count += 1;
  }
  return count > 0 ? [r / count, a / count, s / count] : [middle(nr), middle(na), middle(ns)];
}

function middle(size: number): number {
  return (size - 1) / 2;
}

function perAxis<T>(measure: (axis: Axis) => T): readonly [T, T, T] {
  return [measure(0), measure(1), measure(2)];
}
