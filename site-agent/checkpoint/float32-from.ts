// Stored elements of any number type as float32. Half and bfloat16 become exactly what they stand for; double and
// integers are rounded to the nearest float32, as PyTorch does.

import { assert } from "@consilium/shared/base/assert.ts";
import { dtypeBytes, type TensorDtype } from "@consilium/shared/encoding/tensor-bundle-header.ts";

const HOST_IS_LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
const HALF_EXPONENT_BIAS = 15;
const HALF_FRACTION = 1024;

/**
 * @param bytes       whole elements in a buffer of their own, aligned; the memory may be reused or turned round
 * @param isBigEndian as the machine that wrote the file was
 */
export function float32From(
  bytes: Uint8Array<ArrayBuffer>,
  dtype: TensorDtype,
  isBigEndian = false,
): Float32Array {
  assert(HOST_IS_LITTLE_ENDIAN, "checkpoints are read on little-endian machines only");
  assert(bytes.byteOffset % 8 === 0, "elements are aligned");
  const size = dtypeBytes(dtype);
  assert(bytes.byteLength % size === 0, "whole elements");
  if (isBigEndian) turnRound(bytes, size);
  const { buffer, byteOffset } = bytes;
  const count = bytes.byteLength / size;
  switch (dtype) {
    case "F32":
      return new Float32Array(buffer, byteOffset, count);
    case "F64":
      return new Float32Array(new Float64Array(buffer, byteOffset, count));
    case "F16":
      return halves(new Uint16Array(buffer, byteOffset, count));
    case "BF16":
      return brainHalves(new Uint16Array(buffer, byteOffset, count));
    case "I64":
      return Float32Array.from(new BigInt64Array(buffer, byteOffset, count), Number);
    case "U64":
      return Float32Array.from(new BigUint64Array(buffer, byteOffset, count), Number);
    case "I32":
      return new Float32Array(new Int32Array(buffer, byteOffset, count));
    case "U32":
      return new Float32Array(new Uint32Array(buffer, byteOffset, count));
    case "I16":
      return new Float32Array(new Int16Array(buffer, byteOffset, count));
    case "U16":
      return new Float32Array(new Uint16Array(buffer, byteOffset, count));
    case "I8":
      return new Float32Array(new Int8Array(buffer, byteOffset, count));
    case "U8":
      return new Float32Array(bytes);
    case "BOOL":
      return Float32Array.from(bytes, (byte) => (byte === 0 ? 0 : 1));
    default:
      return dtype satisfies never;
  }
}

function turnRound(bytes: Uint8Array<ArrayBuffer>, size: number): void {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (size === 2) buffer.swap16();
  if (size === 4) buffer.swap32();
  if (size === 8) buffer.swap64();
}

/** IEEE 754 binary16. */
function halves(codes: Uint16Array): Float32Array {
  const values = new Float32Array(codes.length);
  for (let index = 0; index < codes.length; index += 1) values[index] = halfValue(codes[index] ?? 0);
  return values;
}

function halfValue(code: number): number {
  const sign = code & 0x8000 ? -1 : 1;
  const exponent = (code >> 10) & 0x1f;
  const fraction = code & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * (fraction / HALF_FRACTION) * 2 ** (1 - HALF_EXPONENT_BIAS);
  return sign * (1 + fraction / HALF_FRACTION) * 2 ** (exponent - HALF_EXPONENT_BIAS);
}

/** The upper half of a float32. */
function brainHalves(codes: Uint16Array): Float32Array {
  const bits = new Uint32Array(codes.length);
  for (let index = 0; index < codes.length; index += 1) bits[index] = (codes[index] ?? 0) << 16;
  return new Float32Array(bits.buffer);
}
