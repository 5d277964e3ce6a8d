// Affine maps from voxel indices to millimetres, and the little three-dimensional algebra they need. World axes are
// RAS+: x grows to the patient's right, y to the front, z to the head. Nothing here knows a file format.

export type Vec3 = readonly [number, number, number];

/** One of the three voxel axes. */
export type Axis = 0 | 1 | 2;

export const AXES: readonly [0, 1, 2] = [0, 1, 2];

/** The upper three rows of a 4x4 matrix: `world = columns * index + origin`, all in mm. */
export interface Affine {
  /** World vector of one step along each voxel axis. */
  readonly columns: readonly [Vec3, Vec3, Vec3];
  /** World position of voxel (0, 0, 0). */
  readonly origin: Vec3;
}

function dot(a: Vec3, b: Vec3): number {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

export function scaled(a: Vec3, factor: number): Vec3 {
  return [a[0] * factor, a[1] * factor, a[2] * factor];
}

export function added(a: Vec3, b: Vec3): Vec3 {
  return [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
}

export function length(a: Vec3): number {
  return Math.hypot(a[0], a[1], a[2]);
}

/** World position in mm of a voxel index, which may be fractional. */
export function toWorld(affine: Affine, index: Vec3): Vec3 {
  const [i, j, k] = affine.columns;
  return added(affine.origin, added(scaled(i, index[0]), added(scaled(j, index[1]), scaled(k, index[2]))));
}

/** Length in mm of one step along each voxel axis. */
export function spacingOf(affine: Affine): Vec3 {
  const [i, j, k] = affine.columns;
  return [length(i), length(j), length(k)];
}

/** The largest absolute cosine between two voxel axes: 0 for a box-shaped grid, towards 1 when two axes coincide. */
export function axisCosineMax(affine: Affine): number {
  const [i, j, k] = affine.columns;
  const cosine = (a: Vec3, b: Vec3): number => Math.abs(dot(a, b)) / (length(a) * length(b));
  return Math.max(cosine(i, j), cosine(j, k), cosine(i, k));
}

/** A grid along the world axes with its first voxel at the origin. */
export function diagonalAffine(spacingMm: Vec3, origin: Vec3 = [0, 0, 0]): Affine {
  return {
    columns: [
      [spacingMm[0], 0, 0],
      [0, spacingMm[1], 0],
      [0, 0, spacingMm[2]],
    ],
    origin,
  };
}
