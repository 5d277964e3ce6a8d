// Exact Euclidean distance transform on a grid of unequal spacing: steps to the nearest seed along the slowest axis, then
// the lower envelope of parabolas along the other two, in float64 (Felzenszwalb and Huttenlocher 2012). Squared distances
// are so summed in the order of scipy.ndimage.

import type { Vec3 } from "../data/affine.ts";

/**
 * @param seeds 1 at the voxels whose distance is 0; at least one. i fastest.
 * @returns squared distance in mm of every voxel to its nearest seed.
 */
export function squaredDistances(seeds: Uint8Array, shape: Vec3, spacingMm: Vec3): Float64Array {
  const [ni, nj, nk] = shape;
  const squared = squaredAlongSlowest(seeds, shape, spacingMm[2]);
  const envelope = makeEnvelope(Math.max(ni, nj));
  const pass = (start: number, stride: number, size: number, stepMm: number): void => {
    if (size > 1) lowerEnvelope(squared, { start, stride, size, stepMm }, envelope);
  };
  for (let k = 0; k < nk; k += 1) {
    for (let i = 0; i < ni; i += 1) pass(k * ni * nj + i, ni, nj, spacingMm[1]);
  }
  for (let row = 0; row < nj * nk; row += 1) pass(row * ni, 1, ni, spacingMm[0]);
  return squared;
}

/** Squared distance to the nearest seed of the same column, infinite where the column has none. */
function squaredAlongSlowest(seeds: Uint8Array, [ni, nj, nk]: Vec3, stepMm: number): Float64Array {
  const slab = ni * nj;
  const steps = new Float64Array(seeds.length);
  for (let index = 0; index < seeds.length; index += 1) {
    const below = index < slab ? Number.POSITIVE_INFINITY : (steps[index - slab] ?? 0);
    steps[index] = (seeds[index] ?? 0) > 0 ? 0 : below + 1;
  }
  for (let index = slab * (nk - 1) - 1; index >= 0; index -= 1) {
    steps[index] = Math.min(steps[index] ?? 0, (steps[index + slab] ?? 0) + 1);
  }
  for (let index = 0; index < steps.length; index += 1) {
    const awayMm = (steps[index] ?? 0) * stepMm;
    steps[index] = awayMm * awayMm;
  }
  return steps;
}

interface Line {
  readonly start: number;
  readonly stride: number;
  readonly size: number;
  readonly stepMm: number;
}

/** Scratch memory for one line: the parabolas of the envelope, where each begins to be lowest, and the line's values. */
interface Envelope {
  readonly vertices: Int32Array;
  readonly begins: Float64Array;
  readonly values: Float64Array;
}

function makeEnvelope(sizeMax: number): Envelope {
  return {
    vertices: new Int32Array(sizeMax),
    begins: new Float64Array(sizeMax + 1),
    values: new Float64Array(sizeMax),
  };
}

function lowerEnvelope(squared: Float64Array, line: Line, envelope: Envelope): void {
  const { start, stride, size, stepMm } = line;
  const { vertices, begins, values } = envelope;
  for (let place = 0; place < size; place += 1) values[place] = squared[start + place * stride] ?? 0;
  const count = collectParabolas(size, stepMm, envelope);
  if (count === 0) return; // No seed reaches this line yet.
  let current = 0;
  for (let place = 0; place < size; place += 1) {
    while (current + 1 < count && (begins[current + 1] ?? 0) < place) current += 1;
    const vertex = vertices[current] ?? 0;
    const awayMm = stepMm * (place - vertex);
    squared[start + place * stride] = (values[vertex] ?? 0) + awayMm * awayMm;
  }
}

/** @returns how many parabolas the envelope has; places are counted in steps, not mm. */
function collectParabolas(size: number, stepMm: number, { vertices, begins, values }: Envelope): number {
  const unit = stepMm * stepMm;
  let count = 0;
  for (let place = 0; place < size; place += 1) {
    const value = values[place] ?? 0;
    if (value === Number.POSITIVE_INFINITY) continue;
    let begin = Number.NEGATIVE_INFINITY;
    while (count > 0) {
      const vertex = vertices[count - 1] ?? 0;
      const rise = value - (values[vertex] ?? 0);
      begin = (rise / unit + place * place - vertex * vertex) / (2 * (place - vertex));
      if (begin > (begins[count - 1] ?? 0)) break;
      count -= 1;
      begin = Number.NEGATIVE_INFINITY;
    }
    vertices[count] = place;
    begins[count] = begin;
    count += 1;
  }
  return count;
}
