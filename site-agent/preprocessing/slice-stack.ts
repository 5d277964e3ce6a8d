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

/** Writes values of a slice into their places in the volume; what was cropped away keeps its value. */
export function pasteSlice(
  slice: Float32Array,
  geometry: StackGeometry,
  target: { volume: Float32Array; index: number },
): void {
  walkSlice(geometry, target.index, (inVolume, inSlice) => {
    target.volume[inVolume] = slice[inSlice] ?? 0;
  });
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
