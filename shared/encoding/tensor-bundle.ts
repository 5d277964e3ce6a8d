// Tensor bundles: safetensors files, read and written within hard limits. They carry names, shapes and numbers; there
// is no code, no type name and no reference in them, so reading one can compute nothing and fetch nothing.
// Reading copies no tensor; writing the same tensors in the same order gives the same bytes.

import { assert } from "../base/assert.ts";
import { TensorBundleError } from "./tensor-bundle-error.ts";
import {
  BUNDLE_BYTES_MAX,
  HEADER_BYTES_MAX,
  HEADER_PREFIX_BYTES,
  METADATA_ENTRIES_MAX,
  METADATA_LENGTH_MAX,
  readBundleHeader,
  readHeaderLength,
  TENSOR_COUNT_MAX,
  TENSOR_NAME_LENGTH_MAX,
  TENSOR_RANK_MAX,
  type TensorDtype,
  type TensorMetadata,
  tensorByteLength,
} from "./tensor-bundle-header.ts";

/** `bytes` are the raw little-endian elements in row-major order. */
export type BundledTensor = {
  readonly name: string;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
};

export type TensorBundle = {
  /** By name, in the order in which the data lies in the file. */
  readonly tensors: ReadonlyMap<string, BundledTensor>;
  readonly metadata: TensorMetadata;
};

type TensorSignature = Omit<BundledTensor, "bytes">;

const HEADER_ALIGNMENT_BYTES = 8;

/**
 * The bundle's tensors as views of `bytes`.
 * @throws TensorBundleError when the bytes are not exactly one well-formed bundle.
 */
export function readTensorBundle(bytes: Uint8Array): TensorBundle {
  if (bytes.byteLength > BUNDLE_BYTES_MAX) {
    throw new TensorBundleError("bundle.too-large", `The bundle is larger than ${BUNDLE_BYTES_MAX} bytes.`);
  }
  // Node's Buffer overrides methods of Uint8Array, slice above all: views are made of the plain array.
  const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const headerBytes = readHeaderLength(plain);
  const dataStart = HEADER_PREFIX_BYTES + headerBytes;
  if (dataStart > bytes.byteLength) {
    throw new TensorBundleError("bundle.truncated", "The bundle ends inside its header; transfer it again.");
  }
  const header = readBundleHeader(
    plain.subarray(HEADER_PREFIX_BYTES, dataStart),
    bytes.byteLength - dataStart,
  );
  const tensors = new Map<string, BundledTensor>();
  for (const { name, dtype, shape, byteOffset, byteLength } of header.tensors) {
    const start = dataStart + byteOffset;
    tensors.set(name, { name, dtype, shape, bytes: plain.subarray(start, start + byteLength) });
  }
  return { tensors, metadata: header.metadata };
}

/**
 * One bundle with the tensors in the given order.
 * @throws TensorBundleError when a name repeats, a length does not fit its shape, or a limit is passed.
 */
export function writeTensorBundle(
  tensors: readonly BundledTensor[],
  metadata: TensorMetadata = {},
): Uint8Array {
  for (const { dtype, shape, bytes } of tensors) {
    if (bytes.byteLength === tensorByteLength(dtype, shape)) continue;
    throw new TensorBundleError(
      "bundle.size-mismatch",
      `A tensor of shape [${shape}] has ${bytes.byteLength} bytes.`,
    );
  }
  const header = writeBundleHeader(tensors, metadata);
  const dataBytes = tensors.reduce((sum, { bytes }) => sum + bytes.byteLength, 0);
  const bundle = new Uint8Array(header.byteLength + dataBytes);
  bundle.set(header);
  let position = header.byteLength;
  for (const { bytes } of tensors) {
    bundle.set(bytes, position);
    position += bytes.byteLength;
  }
  return bundle;
}

/**
 * Everything before the data: length, JSON without white space, spaces up to a multiple of eight. The data follow in
 * the same order, so that a writer may stream them.
 * @throws TensorBundleError when a name repeats or a limit is passed.
 */
export function writeBundleHeader(
  tensors: readonly TensorSignature[],
  metadata: TensorMetadata = {},
): Uint8Array {
  expectWritable(tensors, metadata);
  const entries: string[] = [];
  const keys = Object.keys(metadata).sort();
  if (keys.length > 0) {
    const pairs = keys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(metadata[key])}`);
    entries.push(`"__metadata__":{${pairs.join(",")}}`);
  }
  let position = 0;
  for (const { name, dtype, shape } of tensors) {
    const end = position + tensorByteLength(dtype, shape);
    const range = `"data_offsets":[${position},${end}]`;
    entries.push(`${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape.join(",")}],${range}}`);
    position = end;
  }
  return framed(new TextEncoder().encode(`{${entries.join(",")}}`), position);
}

function framed(json: Uint8Array, dataBytes: number): Uint8Array {
  const padded = Math.ceil(json.byteLength / HEADER_ALIGNMENT_BYTES) * HEADER_ALIGNMENT_BYTES;
  if (padded > HEADER_BYTES_MAX || HEADER_PREFIX_BYTES + padded + dataBytes > BUNDLE_BYTES_MAX) {
    throw new TensorBundleError("bundle.too-large", "The tensors do not fit into one bundle.");
  }
  const header = new Uint8Array(HEADER_PREFIX_BYTES + padded).fill(0x20, HEADER_PREFIX_BYTES);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, HEADER_PREFIX_BYTES);
  return header;
}

/** A writer refuses what its own reader would refuse. */
function expectWritable(tensors: readonly TensorSignature[], metadata: TensorMetadata): void {
  const seen = new Set<string>(["__metadata__"]);
  for (const { name, shape } of tensors) {
    const wellNamed = name.length > 0 && name.length <= TENSOR_NAME_LENGTH_MAX && name.isWellFormed();
    if (!wellNamed)
      throw new TensorBundleError("bundle.name-invalid", "A tensor has an empty, long or broken name.");
    if (seen.has(name))
      throw new TensorBundleError("bundle.name-repeated", "Two tensors have the same name.");
    seen.add(name);
    const sizes =
      shape.length <= TENSOR_RANK_MAX && shape.every((size) => Number.isSafeInteger(size) && size >= 0);
    if (!sizes)
      throw new TensorBundleError("bundle.header-malformed", `[${shape}] is not the shape of a tensor.`);
  }
  if (tensors.length > TENSOR_COUNT_MAX) {
    throw new TensorBundleError(
      "bundle.too-many-tensors",
      `A bundle holds at most ${TENSOR_COUNT_MAX} tensors.`,
    );
  }
  const entries = Object.entries(metadata);
  const writable = entries.every(
    ([key, value]) => `${key}${value}`.isWellFormed() && value.length <= METADATA_LENGTH_MAX,
  );
  if (entries.length > METADATA_ENTRIES_MAX || !writable) {
    throw new TensorBundleError(
      "bundle.metadata-invalid",
      "The metadata is not a short map of text to text.",
    );
  }
}

/**
 * The tensor's numbers, without a copy where the bytes are aligned. The view shares memory with the bundle.
 * @throws TensorBundleError `bundle.wrong-dtype`.
 */
export function float32Values(tensor: BundledTensor): Float32Array {
  if (tensor.dtype !== "F32") {
    throw new TensorBundleError("bundle.wrong-dtype", `A tensor is ${tensor.dtype} where F32 is needed.`);
  }
  assert(HOST_IS_LITTLE_ENDIAN, "tensor bundles are read in place on little-endian machines only");
  const { buffer, byteOffset, byteLength } = tensor.bytes;
  if (byteOffset % Float32Array.BYTES_PER_ELEMENT === 0)
    return new Float32Array(buffer, byteOffset, byteLength / 4);
  return new Float32Array(new Uint8Array(tensor.bytes).buffer);
}

/** A float32 tensor over the memory of `values`. */
export function float32Tensor(name: string, shape: readonly number[], values: Float32Array): BundledTensor {
  assert(HOST_IS_LITTLE_ENDIAN, "tensor bundles are written in place on little-endian machines only");
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { name, dtype: "F32", shape, bytes };
}

const HOST_IS_LITTLE_ENDIAN = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
