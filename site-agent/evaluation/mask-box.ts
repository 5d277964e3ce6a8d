// The smallest box round two masks. Distances between their surfaces need no voxel outside it, and most organs fill a
// small part of a volume.

import type { Vec3 } from "../data/affine.ts";

export interface Box {
  readonly start: Vec3;
  readonly size: Vec3;
}

/** Null where both masks are empty. */
export function unionBox(a: Uint8Array, b: Uint8Array, [ni, nj, nk]: Vec3): Box | null {
  const least: [number, number, number] = [ni, nj, nk];
  const most: [number, number, number] = [-1, -1, -1];
  for (let row = 0; row < nj * nk; row += 1) {
    const extent = rowExtent(a, b, { start: row * ni, size: ni });
    if (extent === null) continue;
    const j = row % nj;
    const k = Math.floor(row / nj);
    least[0] = Math.min(least[0], extent.first);
    most[0] = Math.max(most[0], extent.last);
    least[1] = Math.min(least[1], j);
    most[1] = Math.max(most[1], j);
    least[2] = Math.min(least[2], k);
    most[2] = Math.max(most[2], k);
  }
  if (most[0] < 0) return null;
  return { start: least, size: [most[0] - least[0] + 1, most[1] - least[1] + 1, most[2] - least[2] + 1] };
}

function rowExtent(
  a: Uint8Array,
  b: Uint8Array,
  { start, size }: { start: number; size: number },
): { first: number; last: number } | null {
  let first = 0;
  while (first < size && (a[start + first] ?? 0) === 0 && (b[start + first] ?? 0) === 0) first += 1;
  if (first === size) return null;
  let last = size - 1;
  while ((a[start + last] ?? 0) === 0 && (b[start + last] ?? 0) === 0) last -= 1;
  return { first, last };
}

/** The part of a mask inside a box. */
export function cropped(mask: Uint8Array, [ni, nj]: Vec3, { start, size }: Box): Uint8Array {
  const part = new Uint8Array(size[0] * size[1] * size[2]);
  for (let k = 0; k < size[2]; k += 1) {
    for (let j = 0; j < size[1]; j += 1) {
      const from = ((start[2] + k) * nj + start[1] + j) * ni + start[0];
      part.set(mask.subarray(from, from + size[0]), (k * size[1] + j) * size[0]);
    }
  }
  return part;
}
