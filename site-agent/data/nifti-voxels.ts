// Voxel values of a NIfTI file: scaled intensities as float32, or labels as bytes. Values that are no numbers are
// replaced by 0 and counted while they are few, and refused when they are many.

import type { Grid } from "./grid.ts";
import { NiftiError } from "./nifti-error.ts";
import { type NiftiHeader, niftiFileBytes } from "./nifti-header.ts";
import { type Labelmap, makeLabelmap, makeVolume, type Volume } from "./volume.ts";

/** Above this share of voxels without a finite value the volume is refused: 5 %. */
export const NON_FINITE_SHARE_MAX = 0.05;
const LABEL_MAX = 255;

/** @throws NiftiError when the file does not end with its last voxel, or holds too many non-finite values. */
export function decodeVolume(
  bytes: Uint8Array,
  header: NiftiHeader,
  grid: Grid,
): { volume: Volume; replacedVoxels: number } {
  const { next, count } = voxelReader(bytes, header);
  const voxels = new Float32Array(count);
  let replacedVoxels = 0;
  for (let index = 0; index < count; index += 1) {
    const value = Math.fround(next(index) * header.slope + header.intercept);
    if (Number.isFinite(value)) voxels[index] = value;
    else replacedVoxels += 1;
  }
  if (replacedVoxels > NON_FINITE_SHARE_MAX * count) throw new NiftiError("nifti.voxels.nonfinite");
  return { volume: makeVolume(grid, voxels), replacedVoxels };
}

/** @throws NiftiError nifti.labels when a scaled value is not a whole number from 0 to 255. */
export function decodeLabelmap(bytes: Uint8Array, header: NiftiHeader, grid: Grid): Labelmap {
  const { next, count } = voxelReader(bytes, header);
  const voxels = new Uint8Array(count);
  for (let index = 0; index < count; index += 1) {
    const value = next(index) * header.slope + header.intercept;
    if (!(value >= 0 && value <= LABEL_MAX && Number.isInteger(value))) throw new NiftiError("nifti.labels");
    voxels[index] = value;
  }
  return makeLabelmap(grid, voxels);
}

function voxelReader(
  bytes: Uint8Array,
  header: NiftiHeader,
): { next: (index: number) => number; count: number } {
  const end = niftiFileBytes(header);
  if (bytes.length < end) throw new NiftiError("nifti.voxels.short");
  if (bytes.length > end) throw new NiftiError("nifti.voxels.excess");
  const { datatype, littleEndian, voxelOffset } = header;
  const view = new DataView(bytes.buffer, bytes.byteOffset + voxelOffset, end - voxelOffset);
  return {
    next: (index) => datatype.read(view, index * datatype.bytes, littleEndian),
    count: (end - voxelOffset) / datatype.bytes,
  };
}
