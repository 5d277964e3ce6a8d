// Distances between the surfaces of two masks in millimetres: Hausdorff and its 95th percentile in both common
// definitions, average symmetric surface distance, and the share of the surfaces within a tolerance. A surface is the
// mask's voxels with a face neighbour outside it; beyond the volume counts as outside.

import type { Vec3 } from "../data/affine.ts";
import { percentile } from "../data/percentile.ts";
import { squaredDistances } from "./distance-transform.ts";
import { cropped, unionBox } from "./mask-box.ts";

export interface SurfaceDistances {
  readonly hdMm: number;
  /** 95th percentile of both directions' distances together. */
  readonly hd95PooledMm: number;
  /** The larger of the two directions' 95th percentiles. */
  readonly hd95MaxOfDirectedMm: number;
  /** Mean over both directions' distances together. */
  readonly assdPooledMm: number;
  /** Mean of the two directions' means. */
  readonly assdMeanOfDirectedMm: number;
  /** Share of both surfaces within the tolerance of the other (normalised surface Dice). */
  nsd(toleranceMm: number): number;
}

export interface MaskPair {
  /** Nonzero inside; i fastest. */
  readonly predicted: Uint8Array;
  readonly truth: Uint8Array;
  readonly shape: Vec3;
  readonly spacingMm: Vec3;
}

/** Null where either mask is empty: no distance is defined. */
export function surfaceDistances({ predicted, truth, shape, spacingMm }: MaskPair): SurfaceDistances | null {
  const box = unionBox(predicted, truth, shape);
  if (box === null) return null;
  const surfaceA = surfaceOf(cropped(predicted, shape, box), box.size, shape);
  const surfaceB = surfaceOf(cropped(truth, shape, box), box.size, shape);
  if (!surfaceA.includes(1) || !surfaceB.includes(1)) return null;
  const fromA = distancesAt(surfaceA, squaredDistances(surfaceB, box.size, spacingMm));
  const fromB = distancesAt(surfaceB, squaredDistances(surfaceA, box.size, spacingMm));
  return summary(fromA, fromB);
}

function summary(fromA: Float64Array, fromB: Float64Array): SurfaceDistances {
  const pooled = new Float64Array(fromA.length + fromB.length);
  pooled.set(fromA);
  pooled.set(fromB, fromA.length);
  return {
    hdMm: pooled.reduce((most, value) => Math.max(most, value), 0),
    hd95PooledMm: percentile(pooled, 0.95),
    hd95MaxOfDirectedMm: Math.max(percentile(fromA, 0.95), percentile(fromB, 0.95)),
    assdPooledMm: mean(pooled),
    assdMeanOfDirectedMm: (mean(fromA) + mean(fromB)) / 2,
    nsd: (toleranceMm) => pooled.filter((distance) => distance <= toleranceMm).length / pooled.length,
  };
}

/**
 * 1 where a mask voxel has a face neighbour outside the mask. The box may touch the mask: beyond it is outside. An axis
 * along which the whole volume has one voxel has no neighbours at all: a single slice is a plane, not a body.
 */
function surfaceOf(mask: Uint8Array, [ni, nj, nk]: Vec3, volumeShape: Vec3): Uint8Array {
  const surface = new Uint8Array(mask.length);
  const [isFlatI, isFlatJ, isFlatK] = [volumeShape[0] === 1, volumeShape[1] === 1, volumeShape[2] === 1];
  const isIn = (index: number): boolean => (mask[index] ?? 0) > 0;
  let index = 0;
  for (let k = 0; k < nk; k += 1) {
    for (let j = 0; j < nj; j += 1) {
      for (let i = 0; i < ni; i += 1) {
        if (isIn(index)) {
          const isInner =
            (isFlatI || (i > 0 && i < ni - 1 && isIn(index - 1) && isIn(index + 1))) &&
            (isFlatJ || (j > 0 && j < nj - 1 && isIn(index - ni) && isIn(index + ni))) &&
            (isFlatK || (k > 0 && k < nk - 1 && isIn(index - ni * nj) && isIn(index + ni * nj)));
          surface[index] = isInner ? 0 : 1;
        }
        index += 1;
      }
    }
  }
  return surface;
}

function distancesAt(surface: Uint8Array, squared: Float64Array): Float64Array {
  const distances = new Float64Array(surface.reduce((count, voxel) => count + voxel, 0));
  let place = 0;
  for (let index = 0; index < surface.length; index += 1) {
    if (surface[index] !== 1) continue;
    distances[place] = Math.sqrt(squared[index] ?? 0);
    place += 1;
  }
  return distances;
}

function mean(values: Float64Array): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
