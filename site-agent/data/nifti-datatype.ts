// The voxel types of NIfTI that hold one real number, by their code in the header. Complex, RGB, 128-bit and
// one-bit types are not read.

import { NiftiError } from "./nifti-error.ts";

export interface NiftiDatatype {
  readonly code: number;
  readonly bytes: 1 | 2 | 4 | 8;
  /** Numbers over little-endian memory, not copied where JavaScript has an array of the type. */
  readonly over: (buffer: ArrayBuffer, count: number) => ArrayLike<number>;
}

export const UINT8_CODE = 2;
export const INT16_CODE = 4;
export const FLOAT32_CODE = 16;

const DATATYPES: readonly NiftiDatatype[] = [
  { code: UINT8_CODE, bytes: 1, over: (buffer, count) => new Uint8Array(buffer, 0, count) },
  { code: INT16_CODE, bytes: 2, over: (buffer, count) => new Int16Array(buffer, 0, count) },
  { code: 8, bytes: 4, over: (buffer, count) => new Int32Array(buffer, 0, count) },
  { code: FLOAT32_CODE, bytes: 4, over: (buffer, count) => new Float32Array(buffer, 0, count) },
  { code: 64, bytes: 8, over: (buffer, count) => new Float64Array(buffer, 0, count) },
  { code: 256, bytes: 1, over: (buffer, count) => new Int8Array(buffer, 0, count) },
  { code: 512, bytes: 2, over: (buffer, count) => new Uint16Array(buffer, 0, count) },
  { code: 768, bytes: 4, over: (buffer, count) => new Uint32Array(buffer, 0, count) },
  { code: 1024, bytes: 8, over: (buffer, count) => Array.from(new BigInt64Array(buffer, 0, count), Number) },
  { code: 1280, bytes: 8, over: (buffer, count) => Array.from(new BigUint64Array(buffer, 0, count), Number) },
];

/** @throws NiftiError nifti.datatype for a code outside the table or a width that contradicts it. */
export function datatypeOf(code: number, bitsPerVoxel: number): NiftiDatatype {
  const datatype = DATATYPES.find((candidate) => candidate.code === code);
  if (!datatype || datatype.bytes * 8 !== bitsPerVoxel) throw new NiftiError("nifti.datatype");
  return datatype;
}
