// Where weights and updates are kept: immutable byte strings under their SHA-256. The port and its implementation as
// files; a blob exists when its name does, so writing ends with a rename.

import { createHash, randomUUID } from "node:crypto";
import {
  closeSync,
  createReadStream,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { Readable } from "node:stream";
import type { Sha256 } from "@consilium/shared/base/brand.ts";

export type StoredBlob = { readonly sha256: Sha256; readonly bytes: number };

/** Random access to one blob. */
export type BlobReader = {
  readonly bytes: number;
  /** Fill `into` from `position`. @throws ArtifactError when the blob ends before */
  readInto(position: number, into: Uint8Array): void;
  close(): void;
};

/** Writes one blob from front to back. Nothing exists before `finish`. */
export type BlobWriter = {
  write(bytes: Uint8Array): void;
  /** Durable when it returns. */
  finish(): StoredBlob;
  abandon(): void;
};

export type ArtifactStore = {
  /** Size in bytes; null when there is no such blob. */
  size(sha256: Sha256): number | null;
  /** @throws ArtifactError artifact.missing */
  open(sha256: Sha256): BlobReader;
  stream(sha256: Sha256, from: number): Readable;
  create(): BlobWriter;
  /** Take over a finished file, whose digest the caller has checked, by renaming it. */
  adopt(file: string, blob: StoredBlob): void;
  delete(sha256: Sha256): void;
};

export class ArtifactError extends Error {
  override name = "ArtifactError";
  readonly code: "artifact.missing" | "artifact.truncated";
  constructor(code: ArtifactError["code"], message: string) {
    super(message);
    this.code = code;
  }
}

export class FileArtifactStore implements ArtifactStore {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
    mkdirSync(join(folder, "tmp"), { recursive: true, mode: 0o700 });
  }

  size(sha256: Sha256): number | null {
    return statSync(this.#file(sha256), { throwIfNoEntry: false })?.size ?? null;
  }

  open(sha256: Sha256): BlobReader {
    const bytes = this.size(sha256);
    if (bytes === null)
      throw new ArtifactError(
        "artifact.missing",
        `blob ${sha256} is not in the store: restore it from the backup`,
      );
    const descriptor = openSync(this.#file(sha256), "r");
    return {
      bytes,
      readInto(position, into) {
        for (let done = 0; done < into.length; ) {
          const count = readSync(descriptor, into, done, into.length - done, position + done);
          if (count === 0)
            throw new ArtifactError("artifact.truncated", `blob ${sha256} is shorter than it was`);
          done += count;
        }
      },
      close: () => closeSync(descriptor),
    };
  }

  stream(sha256: Sha256, from: number): Readable {
    return createReadStream(this.#file(sha256), { start: from, highWaterMark: 1 << 20 });
  }

  create(): BlobWriter {
    const file = join(this.#folder, "tmp", randomUUID());
    const descriptor = openSync(file, "wx", 0o600);
    const hash = createHash("sha256");
    let bytes = 0;
    return {
      write: (chunk) => {
        hash.update(chunk);
        for (let done = 0; done < chunk.length; ) done += writeSync(descriptor, chunk, done);
        bytes += chunk.length;
      },
      finish: () => {
        fsyncSync(descriptor);
        closeSync(descriptor);
        const blob = { sha256: hash.digest("hex") as Sha256, bytes }; // 64 hexadecimal digits by construction.
        this.adopt(file, blob);
        return blob;
      },
      abandon: () => {
        closeSync(descriptor);
        rmSync(file, { force: true });
      },
    };
  }

  adopt(file: string, { sha256 }: StoredBlob): void {
    const target = this.#file(sha256);
    if (existsSync(target)) {
      rmSync(file, { force: true }); // The same bytes are there.
      return;
    }
    mkdirSync(dirname(target), { recursive: true, mode: 0o700 });
    renameSync(file, target);
    syncFolder(dirname(target));
  }

  delete(sha256: Sha256): void {
    rmSync(this.#file(sha256), { force: true });
  }

  /** Digests are the only names, so no name can lead out of the folder. */
  #file(sha256: Sha256): string {
    return join(this.#folder, "sha256", sha256.slice(0, 2), sha256);
  }
}

/** A rename is durable once its folder is. */
export function syncFolder(folder: string): void {
  const descriptor = openSync(folder, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
