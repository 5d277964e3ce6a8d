// The header of a NIfTI-1 or NIfTI-2 file, in either byte order, as a checked record. Bytes are hostile: nothing leaves
// this module that has not been held against a named bound. Free-text fields are never decoded.

import type { Vec3 } from "./affine.ts";
import { datatypeOf, type NiftiDatatype } from "./nifti-datatype.ts";
import { NiftiError } from "./nifti-error.ts";
import { NIFTI1, NIFTI2, type NiftiLayout } from "./nifti-layout.ts";

/** 268 million voxels, e.g. 512 x 512 x 1024: 1 GiB of float32. */
const NIFTI_VOXELS_MAX = 2 ** 28;
const NIFTI_EXTENSION_BYTES_MAX = 16 * 2 ** 20;
const NIFTI_DIMENSION_MAX = 32_767;
const RANK_MAX = 7;

export interface NiftiHeader {
  readonly layout: NiftiLayout;
  readonly littleEndian: boolean;
  /** A private copy of the header's bytes, kept so that a result can be written with the same geometry. */
  readonly bytes: Uint8Array;
  readonly shape: Vec3;
  readonly datatype: NiftiDatatype;
  /** First byte of the voxels, counted from the start of the file. */
  readonly voxelOffset: number;
  /** Value = stored * slope + intercept. */
  readonly slope: number;
  readonly intercept: number;
}

/**
 * @param bytes the start of the (inflated) file, at least the header.
 * @throws NiftiError for anything but a single-file NIfTI header with one volume of real numbers.
 */
export function parseNiftiHeader(bytes: Uint8Array): NiftiHeader {
  if (bytes.length < 4) throw new NiftiError("nifti.header.short");
  const { layout, littleEndian } = detectLayout(bytes);
  if (bytes.length < layout.headerBytes) throw new NiftiError("nifti.header.short");
  const copy = new Uint8Array(bytes.subarray(0, layout.headerBytes)); // Buffer.slice would not copy.
  const view = new DataView(copy.buffer);
  checkMagic(copy, layout);
  const shape = readShape(view, layout, littleEndian);
  const datatype = datatypeOf(
    view.getInt16(layout.datatypeAt, littleEndian),
    view.getInt16(layout.bitsPerVoxelAt, littleEndian),
  );
  const voxelOffset = readVoxelOffset(view, layout, littleEndian);
  return {
    layout,
    littleEndian,
    bytes: copy,
    shape,
    datatype,
    voxelOffset,
    ...readScaling(view, layout, littleEndian),
  };
}

/** Bytes of the inflated file from its first byte to its last voxel. */
export function niftiFileBytes(header: NiftiHeader): number {
  const [ni, nj, nk] = header.shape;
  return header.voxelOffset + ni * nj * nk * header.datatype.bytes;
}

function detectLayout(bytes: Uint8Array): { layout: NiftiLayout; littleEndian: boolean } {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (const layout of [NIFTI1, NIFTI2]) {
    for (const littleEndian of [true, false]) {
      if (view.getInt32(0, littleEndian) === layout.headerBytes) return { layout, littleEndian };
    }
  }
  throw new NiftiError("nifti.header.magic");
}

function checkMagic(header: Uint8Array, layout: NiftiLayout): void {
  const found = header.subarray(layout.magicAt, layout.magicAt + layout.magic.length);
  if (layout.magic.every((byte, index) => found[index] === byte)) return;
  const isPair = layout.pairMagic.every((byte, index) => found[index] === byte);
  throw new NiftiError(isPair ? "nifti.header.pair" : "nifti.header.magic");
}

function readShape(view: DataView, layout: NiftiLayout, littleEndian: boolean): Vec3 {
  const rank = layout.readDimension(view, 0, littleEndian);
  if (!(rank >= 1 && rank <= RANK_MAX)) throw new NiftiError("nifti.dimensions");
  const sizes = Array.from({ length: RANK_MAX }, (_, axis) =>
    axis < rank ? layout.readDimension(view, axis + 1, littleEndian) : 1,
  );
  if (sizes.some((size) => !(size >= 1 && size <= NIFTI_DIMENSION_MAX)))
    throw new NiftiError("nifti.dimensions");
  const [ni = 1, nj = 1, nk = 1, ...others] = sizes;
  if (others.some((size) => size !== 1)) throw new NiftiError("nifti.volumes");
  if (ni * nj * nk > NIFTI_VOXELS_MAX) throw new NiftiError("nifti.dimensions");
  return [ni, nj, nk];
}

function readVoxelOffset(view: DataView, layout: NiftiLayout, littleEndian: boolean): number {
  const offset = layout.readVoxelOffset(view, littleEndian);
  const offsetMin = layout.headerBytes + layout.extensionFlagBytes;
  const isInside =
    Number.isInteger(offset) && offset >= offsetMin && offset <= offsetMin + NIFTI_EXTENSION_BYTES_MAX;
  if (!isInside) throw new NiftiError("nifti.offset");
  return offset;
}

function readScaling(
  view: DataView,
  layout: NiftiLayout,
  littleEndian: boolean,
): { slope: number; intercept: number } {
  const slope = layout.readReal(view, layout.slopeAt, littleEndian);
  const intercept = layout.readReal(view, layout.interceptAt, littleEndian);
  if (slope === 0) return { slope: 1, intercept: 0 }; // NIfTI-1 standard: a slope of zero means that nothing is scaled.
  if (!Number.isFinite(slope) || !Number.isFinite(intercept)) throw new NiftiError("nifti.scaling");
  return { slope, intercept };
}
