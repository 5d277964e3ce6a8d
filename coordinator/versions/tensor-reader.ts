// A tensor bundle in the artifact store, read tensor by tensor and block by block: only its header is ever whole in
// memory.

import type { Sha256 } from "@consilium/shared/base/brand.ts";
import { TensorBundleError } from "@consilium/shared/encoding/tensor-bundle-error.ts";
import {
  HEADER_PREFIX_BYTES,
  readBundleHeader,
  readHeaderLength,
  type TensorRange,
} from "@consilium/shared/encoding/tensor-bundle-header.ts";
import type { ParameterManifest } from "@consilium/shared/model/parameter-manifest.ts";
import type { ArtifactStore, BlobReader } from "./artifact-store.ts";

export class TensorReader {
  /** In the order in which they lie in the file. */
  readonly tensors: ReadonlyMap<string, TensorRange>;
  readonly #blob: BlobReader;
  readonly #dataStart: number;

  /** @throws TensorBundleError, ArtifactError */
  static open(store: ArtifactStore, sha256: Sha256): TensorReader {
    const blob = store.open(sha256);
    try {
      return new TensorReader(blob);
    } catch (error) {
      blob.close();
      throw error;
    }
  }

  private constructor(blob: BlobReader) {
    this.#blob = blob;
    const prefix = new Uint8Array(Math.min(HEADER_PREFIX_BYTES, blob.bytes));
    blob.readInto(0, prefix);
    const headerBytes = readHeaderLength(prefix);
    this.#dataStart = HEADER_PREFIX_BYTES + headerBytes;
    if (this.#dataStart > blob.bytes) {
      throw new TensorBundleError(
        "bundle.truncated",
        "The bundle ends inside its header; transfer it again.",
      );
    }
    const header = new Uint8Array(headerBytes);
    blob.readInto(HEADER_PREFIX_BYTES, header);
    const { tensors } = readBundleHeader(header, blob.bytes - this.#dataStart);
    this.tensors = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  }

  /** Fill `into` with the elements from `firstElement` of one float32 tensor on. */
  readFloats(tensor: TensorRange, firstElement: number, into: Float32Array): void {
    const bytes = new Uint8Array(into.buffer, into.byteOffset, into.byteLength);
    this.#blob.readInto(this.#dataStart + tensor.byteOffset + 4 * firstElement, bytes);
  }

  /** Raw bytes of one tensor from `offset` on. */
  readBytes(tensor: TensorRange, offset: number, into: Uint8Array): void {
    this.#blob.readInto(this.#dataStart + tensor.byteOffset + offset, into);
  }

  close(): void {
    this.#blob.close();
  }
}

/** True when the bundle holds exactly the tensors of the manifest: these names, these shapes, float32. */
export function holdsExactly(reader: TensorReader, manifest: ParameterManifest): boolean {
  return (
    reader.tensors.size === manifest.length &&
    manifest.every(({ name, shape, dtype }) => {
      const tensor = reader.tensors.get(name);
      return tensor?.dtype === dtype && tensor.shape.join() === shape.join();
    })
  );
}
