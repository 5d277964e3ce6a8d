// Cuts a canonical volume into slices of one size and puts slices back into a volume. A slice lies as a radiologist
// sees it: the head or the front is up, the patient's right is on the left. Slices larger than wanted are cropped about
// their centre, smaller ones padded.

import { assert } from "@consilium/shared/base/assert.ts";
import type { SliceAxis } from "@consilium/shared/model/preprocessing-plan.ts";
import type { Axis, Vec3 } from "../data/affine.ts";

/** How the planes of a canonical volume relate to the slices cut from it. */
export interface StackGeometry {
  /** Canonical volume, i fastest. */
  readonly shape: Vec3;
  readonly sliceAxis: SliceAxis;
  /** Size of a slice. */
  readonly height: number;
  readonly width: number;
}

interface PlaneAxes {
  readonly slice: Axis;
  readonly row: Axis;
  readonly column: Axis;
}

const PLANE_AXES: Readonly<Record<SliceAxis, PlaneAxes>> = {
  R: { slice: 0, row: 2, column: 1 },
  A: { slice: 1, row: 2, column: 0 },
  S: { slice: 2, row: 1, column: 0 },
};

/** Number of slices, and size of the whole plane before cropping or padding. */
export function planeSize(
  shape: Vec3,
  sliceAxis: SliceAxis,
): { sliceCount: number; height: number; width: number } {
  const { slice, row, column } = PLANE_AXES[sliceAxis];
  return { sliceCount: shape[slice], height: shape[row], width: shape[column] };
}

/** The three canonical values in the order slice, row, column. */
export function inPlaneOrder(values: Vec3, sliceAxis: SliceAxis): Vec3 {
  const { slice, row, column } = PLANE_AXES[sliceAxis];
  return [values[slice], values[row], values[column]];
}

/** @returns one slice [height, width], `fill` where the volume does not reach. */
export function cutSlice(
  voxels: Float32Array,
  geometry: StackGeometry,
  options: { index: number; fill: number },
): Float32Array;
export function cutSlice(
  voxels: Uint8Array,
  geometry: StackGeometry,
  options: { index: number; fill: number },
): Uint8Array;
export function cutSlice(
  voxels: Float32Array | Uint8Array,
  geometry: StackGeometry,
  { index, fill }: { index: number; fill: number },
): Float32Array | Uint8Array {
  const size = geometry.height * geometry.width;
  const slice = voxels instanceof Float32Array ? new Float32Array(size) : new Uint8Array(size);
  slice.fill(fill);
  walkSlice(geometry, index, (inVolume, inSlice) => {
    slice[inSlice] = voxels[inVolume] ?? 0;
  });
  return slice;
}

/**
 * The whole plane that a slice was cut from, rows and columns in canonical order.
 * @param slice [height, width, channels].
 * @param outside one value per channel for what was cropped away.
 * @returns [rows, columns, channels].
 */
export function uncutSlice(
  slice: Float32Array,
  geometry: StackGeometry,
  outside: Float32Array,
): Float32Array {
  const { height: rows, width: columns } = planeSize(geometry.shape, geometry.sliceAxis);
  const channels = outside.length;
  assert(slice.length === geometry.height * geometry.width * channels, "the slice has its geometry's size");
  const plane = new Float32Array(rows * columns * channels);
  if (rows > geometry.height || columns > geometry.width) {
    for (let pixel = 0; pixel < rows * columns; pixel += 1) plane.set(outside, pixel * channels);
  }
  const flat: StackGeometry = { ...geometry, shape: [columns, rows, 1], sliceAxis: "S" };
  walkSlice(flat, 0, (inPlane, inSlice) => {
    for (let channel = 0; channel < channels; channel += 1) {
      plane[inPlane * channels + channel] = slice[inSlice * channels + channel] ?? 0;
    }
  });
  return plane;
}

/** Puts a plane [rows, columns] in canonical order into its place in a canonical volume of labels. */
export function placePlane(
  plane: Uint8Array,
  target: { volume: Uint8Array; shape: Vec3; sliceAxis: SliceAxis; index: number },
): void {
  const strides: Vec3 = [1, target.shape[0], target.shape[0] * target.shape[1]];
  const [, rows, columns] = inPlaneOrder(target.shape, target.sliceAxis);
  const [sliceStride, rowStride, columnStride] = inPlaneOrder(strides, target.sliceAxis);
  for (let row = 0; row < rows; row += 1) {
    for (let column = 0; column < columns; column += 1) {
      const at = target.index * sliceStride + row * rowStride + column * columnStride;
      target.volume[at] = plane[row * columns + column] ?? 0;
    }
  }
}

/** Pairs of places that volume and slice have in common. */
function walkSlice(
  { shape, sliceAxis, height, width }: StackGeometry,
  index: number,
  visit: (inVolume: number, inSlice: number) => void,
): void {
  const strides: Vec3 = [1, shape[0], shape[0] * shape[1]];
  const [sliceCount, rows, columns] = inPlaneOrder(shape, sliceAxis);
  const [sliceStride, rowStride, columnStride] = inPlaneOrder(strides, sliceAxis);
  assert(index >= 0 && index < sliceCount, "the slice lies in the volume");
  const top = Math.floor((height - rows) / 2);
  const left = Math.floor((width - columns) / 2);
  const base = index * sliceStride;
  for (let y = Math.max(0, top); y < Math.min(height, top + rows); y += 1) {
    const inRow = base + (rows - 1 - (y - top)) * rowStride;
    for (let x = Math.max(0, left); x < Math.min(width, left + columns); x += 1) {
      visit(inRow + (columns - 1 - (x - left)) * columnStride, y * width + x);
    }
  }
}
