// The voxel types of NIfTI that hold one real number, by their code in the header. Complex, RGB, 128-bit and
// one-bit types are not read.

import { NiftiError } from "./nifti-error.ts";

export interface NiftiDatatype {
  readonly code: number;
  readonly bytes: number;
  readonly read: (view: DataView, offset: number, littleEndian: boolean) => number;
}

export const UINT8_CODE = 2;
export const INT16_CODE = 4;
export const FLOAT32_CODE = 16;

const DATATYPES: readonly NiftiDatatype[] = [
  { code: UINT8_CODE, bytes: 1, read: (view, offset) => view.getUint8(offset) },
  { code: INT16_CODE, bytes: 2, read: (view, offset, little) => view.getInt16(offset, little) },
  { code: 8, bytes: 4, read: (view, offset, little) => view.getInt32(offset, little) },
  { code: FLOAT32_CODE, bytes: 4, read: (view, offset, little) => view.getFloat32(offset, little) },
  { code: 64, bytes: 8, read: (view, offset, little) => view.getFloat64(offset, little) },
  { code: 256, bytes: 1, read: (view, offset) => view.getInt8(offset) },
  { code: 512, bytes: 2, read: (view, offset, little) => view.getUint16(offset, little) },
  { code: 768, bytes: 4, read: (view, offset, little) => view.getUint32(offset, little) },
  { code: 1024, bytes: 8, read: (view, offset, little) => Number(view.getBigInt64(offset, little)) },
  { code: 1280, bytes: 8, read: (view, offset, little) => Number(view.getBigUint64(offset, little)) },
];

/** @throws NiftiError nifti.datatype for a code outside the table or a width that contradicts it. */
export function datatypeOf(code: number, bitsPerVoxel: number): NiftiDatatype {
  const datatype = DATATYPES.find((candidate) => candidate.code === code);
  if (!datatype || datatype.bytes * 8 !== bitsPerVoxel) throw new NiftiError("nifti.datatype");
  return datatype;
}
