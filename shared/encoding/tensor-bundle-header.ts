// The header of a safetensors file: names, dtypes, shapes and byte ranges, checked before one byte of data is used.
// It needs only the header's own bytes and the length of the data, so that a large bundle can be checked and read
// block by block. It refuses what the format allows but nobody needs: unknown keys, gaps, overlaps, huge headers.
// Format: https://github.com/huggingface/safetensors, section "Format".

import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { TensorBundleError } from "./tensor-bundle-error.ts";
import { parseHeaderJson } from "./tensor-bundle-json.ts";

/** Bytes before the header: its length as a little-endian 64-bit integer. */
export const HEADER_PREFIX_BYTES = 8;
export const HEADER_BYTES_MAX = 8 * 1024 * 1024;
export const TENSOR_COUNT_MAX = 16_384;
export const TENSOR_RANK_MAX = 8;
export const TENSOR_NAME_LENGTH_MAX = 256;
export const METADATA_ENTRIES_MAX = 256;
export const METADATA_LENGTH_MAX = 65_536;
/** Prefix, header and data together. */
export const BUNDLE_BYTES_MAX = 16 * 1024 ** 3;

const DTYPE_BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
} as const;

export type TensorDtype = keyof typeof DTYPE_BYTES;

/** Where one tensor lies. `byteOffset` counts from the first byte after the header. */
export type TensorRange = {
  readonly name: string;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly byteOffset: number;
  readonly byteLength: number;
};

export type TensorMetadata = Readonly<Record<string, string>>;

/** Ranges in the order in which they lie in the data. */
export type TensorBundleHeader = {
  readonly tensors: readonly TensorRange[];
  readonly metadata: TensorMetadata;
};

const Size = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const TensorFields = Type.Object(
  {
    dtype: Type.Enum(Object.keys(DTYPE_BYTES) as TensorDtype[]), // Object.keys forgets the key type.
    shape: Type.Array(Size, { maxItems: TENSOR_RANK_MAX }),
    data_offsets: Type.Tuple([Size, Size]),
  },
  { additionalProperties: false },
);
const Metadata = Type.Record(Type.String(), Type.String({ maxLength: METADATA_LENGTH_MAX }), {
  maxProperties: METADATA_ENTRIES_MAX,
});

/** Bytes of one element. */
export function dtypeBytes(dtype: TensorDtype): number {
  return DTYPE_BYTES[dtype];
}

/**
 * Length of the header in bytes, from the first eight bytes of a bundle.
 * @throws TensorBundleError `bundle.truncated`, `bundle.header-too-long`.
 */
export function readHeaderLength(prefix: Uint8Array): number {
  if (prefix.byteLength < HEADER_PREFIX_BYTES) {
    throw new TensorBundleError("bundle.truncated", "The bundle ends before its header; transfer it again.");
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset, HEADER_PREFIX_BYTES).getBigUint64(0, true);
  if (length > BigInt(HEADER_BYTES_MAX)) {
    throw new TensorBundleError(
      "bundle.header-too-long",
      `The header is longer than ${HEADER_BYTES_MAX} bytes; this is not a tensor bundle of this system.`,
    );
  }
  return Number(length);
}

/**
 * @param headerBytes exactly the header, without the eight bytes of its length
 * @param dataBytes   length of the data that follows the header
 * @throws TensorBundleError for every header that does not describe that data completely and without overlap.
 */
export function readBundleHeader(headerBytes: Uint8Array, dataBytes: number): TensorBundleHeader {
  const fields = parseHeaderJson(decodeHeader(headerBytes));
  if (typeof fields !== "object" || Array.isArray(fields)) {
    throw new TensorBundleError("bundle.header-malformed", "The header is not an object.");
  }
  const { __metadata__: metadata = Object.create(null), ...entries } = fields;
  if (!Value.Check(Metadata, metadata)) {
    throw new TensorBundleError(
      "bundle.metadata-invalid",
      "The header's metadata is not a short map of text to text.",
    );
  }
  const names = Object.keys(entries);
  if (names.length > TENSOR_COUNT_MAX) {
    throw new TensorBundleError(
      "bundle.too-many-tensors",
      `The bundle names more than ${TENSOR_COUNT_MAX} tensors.`,
    );
  }
  const tensors = names.map((name, index) => readRange(name, index, entries[name]));
  tensors.sort((a, b) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  expectTiling(tensors, dataBytes);
  return { tensors, metadata: Object.freeze({ ...metadata }) };
}

function decodeHeader(headerBytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(headerBytes);
  } catch {
    throw new TensorBundleError("bundle.header-not-json", "The header is not UTF-8 text.");
  }
}

function readRange(name: string, index: number, value: unknown): TensorRange {
  if (name.length === 0 || name.length > TENSOR_NAME_LENGTH_MAX) {
    throw new TensorBundleError(
      "bundle.name-invalid",
      `Tensor ${index} has a name that is empty or longer than ${TENSOR_NAME_LENGTH_MAX} characters.`,
    );
  }
  if (!Value.Check(TensorFields, value)) {
    const what = "needs a supported dtype, a shape of whole numbers and two offsets, and nothing else";
    throw new TensorBundleError("bundle.header-malformed", `The header's entry ${index} ${what}.`);
  }
  return checkedRange(name, index, value);
}

function checkedRange(name: string, index: number, fields: Static<typeof TensorFields>): TensorRange {
  const { dtype, shape } = fields;
  const [begin, end] = fields.data_offsets;
  const expected = tensorByteLength(dtype, shape);
  if (expected !== end - begin) {
    throw new TensorBundleError(
      "bundle.size-mismatch",
      `Tensor ${index} has ${end - begin} bytes where its shape and dtype need ${expected}.`,
    );
  }
  return { name, dtype, shape, byteOffset: begin, byteLength: expected };
}

/** @throws TensorBundleError `bundle.shape-too-large` when the product leaves the bounds of a bundle. */
export function tensorByteLength(dtype: TensorDtype, shape: readonly number[]): number {
  let bytes = dtypeBytes(dtype);
  if (shape.includes(0)) return 0;
  for (const size of shape) {
    bytes *= size;
    if (bytes > BUNDLE_BYTES_MAX) {
      throw new TensorBundleError(
        "bundle.shape-too-large",
        "A tensor's shape is larger than a whole bundle may be.",
      );
    }
  }
  return bytes;
}

/** Every byte of the data belongs to exactly one tensor: nothing is hidden between them and nothing is shared. */
function expectTiling(tensors: readonly TensorRange[], dataBytes: number): void {
  let next = 0;
  for (const { byteOffset, byteLength } of tensors) {
    if (byteOffset !== next) {
      throw new TensorBundleError("bundle.gap-or-overlap", `The tensors do not meet at data byte ${next}.`);
    }
    next += byteLength;
  }
  if (next > dataBytes) {
    throw new TensorBundleError(
      "bundle.truncated",
      `The data ends at byte ${dataBytes} of ${next}; transfer it again.`,
    );
  }
  if (next < dataBytes) {
    throw new TensorBundleError("bundle.gap-or-overlap", `${dataBytes - next} bytes belong to no tensor.`);
  }
}
