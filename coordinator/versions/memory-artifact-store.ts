// The artifact store in memory: for the verifier, which reads blobs out of a bundle, and for tests.

import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import type { Sha256 } from "@consilium/shared/base/brand.ts";
import { ArtifactError, type ArtifactStore, type BlobReader, type BlobWriter } from "./artifact-store.ts";

export class MemoryArtifactStore implements ArtifactStore {
  readonly #blobs = new Map<Sha256, Uint8Array>();
  readonly #behind: (sha256: Sha256) => Uint8Array | undefined;

  /** @param behind blobs that are there from the beginning */
  constructor(behind: (sha256: Sha256) => Uint8Array | undefined = () => undefined) {
    this.#behind = behind;
  }

  size(sha256: Sha256): number | null {
    return this.#find(sha256)?.length ?? null;
  }

  open(sha256: Sha256): BlobReader {
    const blob = this.#find(sha256);
    if (!blob) throw new ArtifactError("artifact.missing", `blob ${sha256} is not there`);
    return {
      bytes: blob.length,
      readInto(position, into) {
        if (position + into.length > blob.length)
          throw new ArtifactError("artifact.truncated", `blob ${sha256} is too short`);
        into.set(blob.subarray(position, position + into.length));
      },
      close() {},
    };
  }

  stream(sha256: Sha256, from: number): Readable {
    return Readable.from([this.#find(sha256)?.subarray(from) ?? new Uint8Array(0)]);
  }

  create(): BlobWriter {
    const pieces: Uint8Array[] = [];
    const hash = createHash("sha256");
    return {
      write: (bytes) => {
        hash.update(bytes);
        pieces.push(Uint8Array.from(bytes));
      },
      finish: () => {
        const sha256 = hash.digest("hex") as Sha256; // 64 hexadecimal digits by construction.
        const blob = new Uint8Array(Buffer.concat(pieces));
        this.#blobs.set(sha256, blob);
        return { sha256, bytes: blob.length };
      },
      abandon: () => {
        pieces.length = 0;
      },
    };
  }

  adopt(): void {
    throw new ArtifactError("artifact.missing", "a store in memory takes over no files");
  }

  delete(sha256: Sha256): void {
    this.#blobs.delete(sha256);
  }

  #find(sha256: Sha256): Uint8Array | undefined {
    return this.#blobs.get(sha256) ?? this.#behind(sha256);
  }
}
