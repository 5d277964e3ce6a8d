// A .safetensors file as tensors to be read one by one. The header is held to the same bounds as the bundles of the
// federation; floating-point tensors of 16 to 64 bits become float32, other types are refused when they are read.

import { TensorBundleError } from "@consilium/shared/encoding/tensor-bundle-error.ts";
import {
  HEADER_PREFIX_BYTES,
  readBundleHeader,
  readHeaderLength,
  type TensorBundleHeader,
  type TensorDtype,
} from "@consilium/shared/encoding/tensor-bundle-header.ts";
import type { ByteSource } from "./byte-source.ts";
import { CheckpointError } from "./checkpoint-error.ts";
import { readView, rowMajorStrides, type StoredTensor, type StoredTensors } from "./stored-tensor.ts";

const FLOATING: ReadonlySet<TensorDtype> = new Set(["F64", "F32", "F16", "BF16"]);

/** @throws CheckpointError checkpoint.safetensors, checkpoint.truncated */
export function readSafetensors(source: ByteSource): StoredTensors {
  const { header, dataStart } = readHeader(source);
  return new Map(
    header.tensors.map(({ name, dtype, shape, byteOffset }): [string, StoredTensor] => {
      const view = { dtype, shape, strides: rowMajorStrides(shape), offset: 0, isBigEndian: false };
      const read = (): Float32Array => {
        if (!FLOATING.has(dtype)) throw new CheckpointError("checkpoint.dtype", dtype);
        return readView(source, { ...view, byteOffset: dataStart + byteOffset });
      };
      return [name, { dtype, shape, read }];
    }),
  );
}

function readHeader(source: ByteSource): { readonly header: TensorBundleHeader; readonly dataStart: number } {
  try {
    const headerBytes = readHeaderLength(source.read(0, HEADER_PREFIX_BYTES));
    const dataStart = HEADER_PREFIX_BYTES + headerBytes;
    const bytes = source.read(HEADER_PREFIX_BYTES, headerBytes);
    return { header: readBundleHeader(bytes, source.byteLength - dataStart), dataStart };
  } catch (cause) {
    if (!(cause instanceof TensorBundleError)) throw cause;
    throw new CheckpointError("checkpoint.safetensors", cause.code, { cause });
  }
}
