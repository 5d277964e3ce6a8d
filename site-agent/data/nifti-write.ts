// Writing NIfTI files: a label map on the very grid of the image it belongs to, or a volume on a grid of its own. The
// geometry of a source header is kept byte for byte, so that viewers overlay the result; its free text, extensions and
// display range are not, because they may name a patient or describe other data.

import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { assert } from "@consilium/shared/base/assert.ts";
import type { Affine } from "./affine.ts";
import type { Grid } from "./grid.ts";
import { FLOAT32_CODE, INT16_CODE, UINT8_CODE } from "./nifti-datatype.ts";
import { type NiftiHeader, parseNiftiHeader } from "./nifti-header.ts";
import { NIFTI1 } from "./nifti-layout.ts";
import type { Labelmap, Volume } from "./volume.ts";

const gzipAsync = promisify(gzip);
/** xyzt_units: millimetres. */
const UNITS_MM = 2;
/** sform_code of coordinates that belong to the scanner. */
const SCANNER_ANATOMICAL = 1;

/**
 * A gzipped file of dtype uint8 with the geometry of `source`.
 * @param labelmap labels on the grid of `source`, voxel for voxel.
 */
export async function encodeLabelNifti(labelmap: Labelmap, source: NiftiHeader): Promise<Uint8Array> {
  assert(
    labelmap.grid.shape.every((size, axis) => size === source.shape[axis]),
    "labels are written on the grid of their image",
  );
  const header = rewrittenHeader(source, { datatypeCode: UINT8_CODE, bitsPerVoxel: 8 });
  return gzipAsync(Buffer.concat([header, labelmap.voxels]));
}

/** A gzipped NIfTI-1 file: int16 rounds each intensity, float32 keeps it. */
export async function encodeVolumeNifti(volume: Volume, voxelType: "int16" | "float32"): Promise<Uint8Array> {
  const isInt16 = voxelType === "int16";
  const header = rewrittenHeader(nifti1Header(volume.grid), {
    datatypeCode: isInt16 ? INT16_CODE : FLOAT32_CODE,
    bitsPerVoxel: isInt16 ? 16 : 32,
  });
  const payload = isInt16 ? littleEndianInt16(volume.voxels) : littleEndianFloat32(volume.voxels);
  return gzipAsync(Buffer.concat([header, payload]));
}

/** A fresh little-endian NIfTI-1 header whose sform is the grid's affine. */
export function nifti1Header(grid: Grid): NiftiHeader {
  const bytes = new Uint8Array(NIFTI1.headerBytes);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, NIFTI1.headerBytes, true);
  bytes.set(NIFTI1.magic, NIFTI1.magicAt);
  [3, ...grid.shape, 1, 1, 1, 1].forEach((size, index) => {
    NIFTI1.writeDimension(view, index, size, true);
  });
  [1, ...grid.spacingMm].forEach((step, index) => {
    NIFTI1.writeReal(view, NIFTI1.pixdimAt + 4 * index, step, true);
  });
  view.setInt16(NIFTI1.datatypeAt, UINT8_CODE, true);
  view.setInt16(NIFTI1.bitsPerVoxelAt, 8, true);
  NIFTI1.writeVoxelOffset(view, NIFTI1.headerBytes + NIFTI1.extensionFlagBytes, true);
  NIFTI1.writeUnits(view, UNITS_MM, true);
  NIFTI1.writeCode(view, NIFTI1.sformCodeAt, SCANNER_ANATOMICAL, true);
  affineRows(grid.affine).forEach((value, index) => {
    NIFTI1.writeReal(view, NIFTI1.sformRowsAt + 4 * index, value, true);
  });
  return parseNiftiHeader(bytes);
}

function affineRows({ columns: [i, j, k], origin }: Affine): number[] {
  return ([0, 1, 2] as const).flatMap((row) => [i[row], j[row], k[row], origin[row]]);
}

/** Header and extension flag of the new file, in the byte order of the source. */
function rewrittenHeader(
  source: NiftiHeader,
  voxelType: { datatypeCode: number; bitsPerVoxel: number },
): Uint8Array {
  const { layout, littleEndian } = source;
  const offset = layout.headerBytes + layout.extensionFlagBytes;
  const bytes = new Uint8Array(offset);
  bytes.set(source.bytes);
  const view = new DataView(bytes.buffer);
  for (const [start, size] of layout.textFields) bytes.fill(0, start, start + size);
  view.setInt16(layout.datatypeAt, voxelType.datatypeCode, littleEndian);
  view.setInt16(layout.bitsPerVoxelAt, voxelType.bitsPerVoxel, littleEndian);
  layout.writeReal(view, layout.slopeAt, 1, littleEndian);
  layout.writeReal(view, layout.interceptAt, 0, littleEndian);
  layout.writeReal(view, layout.calibrationMaxAt, 0, littleEndian);
  layout.writeReal(view, layout.calibrationMinAt, 0, littleEndian);
  layout.writeCode(view, layout.intentCodeAt, 0, littleEndian);
  layout.writeVoxelOffset(view, offset, littleEndian);
  return bytes;
}

function littleEndianInt16(values: Float32Array): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * 2));
  values.forEach((value, index) => {
    view.setInt16(index * 2, Math.max(-32768, Math.min(32767, Math.round(value))), true);
  });
  return new Uint8Array(view.buffer);
}

function littleEndianFloat32(values: Float32Array): Uint8Array {
  const view = new DataView(new ArrayBuffer(values.length * 4));
  values.forEach((value, index) => {
    view.setFloat32(index * 4, value, true);
  });
  return new Uint8Array(view.buffer);
}
