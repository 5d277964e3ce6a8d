// Voxel values of a NIfTI file: scaled intensities as float32, or labels as bytes. Values that are no numbers are
// replaced by 0 and counted while they are few, and refused when they are many.

import { assert } from "@consilium/shared/base/assert.ts";
import type { Grid } from "./grid.ts";
import { NiftiError } from "./nifti-error.ts";
import { type NiftiHeader, niftiFileBytes } from "./nifti-header.ts";
import { type Labelmap, makeLabelmap, makeVolume, type Volume } from "./volume.ts";

/** Above this share of voxels without a finite value the volume is refused: 5 %. */
const NON_FINITE_SHARE_MAX = 0.05;
const LABEL_MAX = 255;
/** Voxels converted at a time: small enough to stay in the processor's cache. */
const CHUNK_VOXELS = 16_384;

/** @throws NiftiError when the file does not end with its last voxel, or holds too many non-finite values. */
export function decodeVolume(
  bytes: Uint8Array,
  header: NiftiHeader,
  grid: Grid,
): { volume: Volume; replacedVoxels: number } {
  const voxels = new Float32Array(storedCount(bytes, header));
  const { slope, intercept } = header;
  let replacedVoxels = 0;
  for (const { values, start } of storedChunks(bytes, header)) {
    for (let index = 0; index < values.length; index += 1) {
      const value = Math.fround((values[index] ?? 0) * slope + intercept);
      if (Number.isFinite(value)) voxels[start + index] = value;
      else replacedVoxels += 1;
    }
  }
  if (replacedVoxels > NON_FINITE_SHARE_MAX * voxels.length) throw new NiftiError("nifti.voxels.nonfinite");
  return { volume: makeVolume(grid, voxels), replacedVoxels };
}

/** @throws NiftiError nifti.labels when a scaled value is not a whole number from 0 to 255. */
export function decodeLabelmap(bytes: Uint8Array, header: NiftiHeader, grid: Grid): Labelmap {
  const voxels = new Uint8Array(storedCount(bytes, header));
  const { slope, intercept } = header;
  for (const { values, start } of storedChunks(bytes, header)) {
    for (let index = 0; index < values.length; index += 1) {
      const value = (values[index] ?? 0) * slope + intercept;
      if (!(value >= 0 && value <= LABEL_MAX && Number.isInteger(value)))
        throw new NiftiError("nifti.labels");
      voxels[start + index] = value;
    }
  }
  return makeLabelmap(grid, voxels);
}

function storedCount(bytes: Uint8Array, header: NiftiHeader): number {
  const end = niftiFileBytes(header);
  if (bytes.length < end) throw new NiftiError("nifti.voxels.short");
  if (bytes.length > end) throw new NiftiError("nifti.voxels.excess");
  return (end - header.voxelOffset) / header.datatype.bytes;
}

/** The stored numbers in turn, as float64. The array is reused from one chunk to the next. */
function* storedChunks(
  file: Uint8Array,
  { datatype, littleEndian, voxelOffset }: NiftiHeader,
): Generator<{ values: Float64Array; start: number }> {
  assert(HOST_IS_LITTLE_ENDIAN, "voxels are read in place on little-endian machines only");
  const memory = new ArrayBuffer(CHUNK_VOXELS * datatype.bytes);
  const scratch = Buffer.from(memory);
  const values = new Float64Array(CHUNK_VOXELS);
  const count = (file.length - voxelOffset) / datatype.bytes;
  for (let start = 0; start < count; start += CHUNK_VOXELS) {
    const size = Math.min(CHUNK_VOXELS, count - start);
    const from = voxelOffset + start * datatype.bytes;
    scratch.set(file.subarray(from, from + size * datatype.bytes));
    if (!littleEndian) swapBytes(scratch, datatype.bytes);
    values.set(datatype.over(memory, size));
    yield { values: values.subarray(0, size), start };
  }
}

function swapBytes(memory: Buffer, width: 1 | 2 | 4 | 8): void {
  if (width === 2) memory.swap16();
  if (width === 4) memory.swap32();
  if (width === 8) memory.swap64();
}

const HOST_IS_LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
