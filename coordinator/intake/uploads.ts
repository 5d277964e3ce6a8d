// Tensors on their way in: a file per sender and digest that grows chunk by chunk and can be continued after any cut,
// also after either process was restarted. What arrives is nothing until its SHA-256 is right.

import { createHash } from "node:crypto";
import {
  closeSync,
  createReadStream,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type { Readable } from "node:stream";
import type { Sha256 } from "@consilium/shared/base/brand.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import { uploadChunkBytesMax, uploadsPerSiteMax } from "@consilium/shared/protocol/limits.ts";
import type { ArtifactStore } from "../versions/artifact-store.ts";

/** Largest upload of an identity; the caller knows the open plans. */
export type Chunk = {
  readonly sender: string;
  readonly sha256: Sha256;
  readonly offset: number;
  readonly length: number;
  readonly lengthMax: number;
};
export type UploadState = { readonly offset: number; readonly complete: boolean };

export class Uploads {
  readonly #folder: string;
  readonly #store: ArtifactStore;
  readonly #busy = new Set<string>();

  /** @param folder where unfinished uploads are kept */
  constructor(folder: string, store: ArtifactStore) {
    this.#folder = folder;
    this.#store = store;
    mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  /** How much of the upload is here. */
  state(sender: string, sha256: Sha256): UploadState {
    const file = this.#file(sender, sha256);
    const partial = statSync(file, { throwIfNoEntry: false })?.size;
    if (partial !== undefined) return { offset: partial, complete: false };
    const stored = this.#isOwn(sender, sha256) ? this.#store.size(sha256) : null;
    return stored === null ? { offset: 0, complete: false } : { offset: stored, complete: true };
  }

  /**
   * Append one chunk.
   * @throws ProtocolError upload.too-large, upload.offset-mismatch, upload.too-many, upload.digest-mismatch
   */
  async append(chunk: Chunk, body: Readable): Promise<UploadState> {
    const { sender, sha256, offset, length, lengthMax } = chunk;
    if (length > lengthMax || offset > length) throw new ProtocolError("upload.too-large");
    const before = this.state(sender, sha256);
    if (before.complete) return before; // The same bytes were sent before.
    if (before.offset !== offset) throw new ProtocolError("upload.offset-mismatch");
    if (offset === 0) this.#admitAnother(sender, sha256);
    const job = `${sender}/${sha256}`;
    if (this.#busy.has(job)) throw new ProtocolError("upload.offset-mismatch");
    this.#busy.add(job);
    try {
      const size = await this.#write(this.#file(sender, sha256), { offset, length }, body);
      return size === length ? await this.#finish(sender, sha256, length) : { offset: size, complete: false };
    } finally {
      this.#busy.delete(job);
    }
  }

  #admitAnother(sender: string, sha256: Sha256): void {
    const folder = join(this.#folder, sender);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const unfinished = readdirSync(folder).filter((name) => name !== sha256 && !name.endsWith(".done"));
    if (unfinished.length < uploadsPerSiteMax) return;
    // The oldest makes room: a site that never finishes an upload must not lock itself out for ever.
    const ages = unfinished.map((name) => ({ name, atMs: statSync(join(folder, name)).mtimeMs }));
    const oldest = ages.sort((a, b) => a.atMs - b.atMs)[0];
    if (!oldest || this.#busy.has(`${sender}/${oldest.name}`)) throw new ProtocolError("upload.too-many");
    rmSync(join(folder, oldest.name), { force: true });
  }

  async #write(
    file: string,
    { offset, length }: { offset: number; length: number },
    body: Readable,
  ): Promise<number> {
    const descriptor = openSync(file, "a", 0o600);
    let size = offset;
    try {
      for await (const piece of body) {
        const bytes = piece as Uint8Array; // A request body without an encoding yields bytes.
        size += bytes.length;
        if (size > length || size - offset > uploadChunkBytesMax) {
          truncateSync(file, offset);
          throw new ProtocolError("upload.too-large");
        }
        for (let done = 0; done < bytes.length; ) done += writeSync(descriptor, bytes, done);
      }
      fsyncSync(descriptor);
    } finally {
      closeSync(descriptor);
    }
    return size;
  }

  async #finish(sender: string, sha256: Sha256, length: number): Promise<UploadState> {
    const file = this.#file(sender, sha256);
    const hash = createHash("sha256");
    for await (const piece of createReadStream(file, { highWaterMark: 1 << 20 }))
      hash.update(piece as Uint8Array); // Without an encoding, bytes.
    if (hash.digest("hex") !== sha256) {
      rmSync(file, { force: true });
      throw new ProtocolError("upload.digest-mismatch");
    }
    // The mark says that this sender has shown these bytes: nobody learns from an offset what others uploaded.
    closeSync(openSync(`${file}.done`, "w", 0o600));
    this.#store.adopt(file, { sha256, bytes: length });
    return { offset: length, complete: true };
  }

  #isOwn(sender: string, sha256: Sha256): boolean {
    return existsSync(`${this.#file(sender, sha256)}.done`);
  }

  /** Senders are checked names and digests are digests: no path leads out of the folder. */
  #file(sender: string, sha256: Sha256): string {
    return join(this.#folder, sender, sha256);
  }
}
