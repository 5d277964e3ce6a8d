// Files under the SHA-256 of their content. A blob is there whole or not at all: it is written aside, fsynced, renamed,
// and checked against its name whenever it is read. Names are digests, never anything that came in a message.

import { createReadStream } from "node:fs";
import { mkdir, readdir, readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Sha256, sha256, sha256Pattern } from "@consilium/shared/base/brand.ts";
import { GiB } from "@consilium/shared/base/units.ts";
import { blobDigest, blobHasher } from "@consilium/shared/crypto/digest.ts";
import { type Disk, nodeDisk } from "./disk.ts";
import { StoreError } from "./store-error.ts";

/** One blob: what Node reads into memory at once. */
export const storedBlobBytesMax = 4 * GiB;
/** All blobs of one agent together: a few versions of the largest model. */
export const blobStoreBytesMax = 64 * GiB;

/** A blob that is arriving. What has been appended survives a crash and is gone on with. */
export type BlobArrival = {
  readonly receivedBytes: number;
  append(chunk: Uint8Array): Promise<void>;
  /** @throws StoreError `blob.digest-mismatch`; what had arrived is thrown away. */
  finish(): Promise<void>;
};

export class BlobStore {
  readonly #folder: string;
  readonly #disk: Disk;
  readonly #bytesMax: number;
  #storedBytes: number;
  #temporaries = 0;

  private constructor(folder: string, storedBytes: number, options: { disk: Disk; bytesMax: number }) {
    this.#folder = folder;
    this.#disk = options.disk;
    this.#bytesMax = options.bytesMax;
    this.#storedBytes = storedBytes;
  }

  static async open(
    folder: string,
    { disk = nodeDisk, bytesMax = blobStoreBytesMax }: { disk?: Disk; bytesMax?: number } = {},
  ): Promise<BlobStore> {
    await mkdir(join(folder, "sha256"), { recursive: true, mode: 0o700 });
    await mkdir(join(folder, "arriving"), { recursive: true, mode: 0o700 });
    const blobs = await listBlobs(folder);
    const storedBytes = blobs.reduce((sum, { bytes }) => sum + bytes, 0);
    const store = new BlobStore(folder, storedBytes, { disk, bytesMax });
    await store.#removeTemporaries();
    return store;
  }

  get storedBytes(): number {
    return this.#storedBytes;
  }

  /** Length of a blob, or null where it is not here. */
  async bytesOf(digest: Sha256): Promise<number | null> {
    return fileBytes(this.#path(digest));
  }

  /** The digest under which the bytes are now kept. */
  async write(bytes: Uint8Array): Promise<Sha256> {
    const digest = blobDigest(bytes);
    if ((await this.bytesOf(digest)) === bytes.length) return digest;
    this.#expectRoom(bytes.length);
    this.#temporaries += 1;
    const temporary = join(this.#folder, "arriving", `${digest}.${this.#temporaries}.new`);
    await this.#disk.write(temporary, bytes);
    await this.#keep(temporary, { digest, bytes: bytes.length });
    return digest;
  }

  /** @throws StoreError `blob.unknown`, or `blob.damaged` after removing a file that is not what it was. */
  async read(digest: Sha256): Promise<Uint8Array> {
    const bytes = await readFile(this.#path(digest)).catch((cause: unknown) => {
      throw new StoreError(
        "blob.unknown",
        "The agent does not hold these tensors; it will fetch them again.",
        {
          cause,
        },
      );
    });
    if (blobDigest(bytes) === digest) return bytes;
    await this.remove(digest);
    throw new StoreError(
      "blob.damaged",
      "Stored tensors were damaged on the disk; they will be fetched again.",
    );
  }

  /**
   * Begin, or go on with, a blob of known digest and length.
   * @throws StoreError `blob.too-large`, `blob.store-full`
   */
  async arrive(digest: Sha256, bytes: number): Promise<BlobArrival> {
    this.#expectRoom(bytes);
    const path = join(this.#folder, "arriving", digest);
    let receivedBytes = (await fileBytes(path)) ?? 0;
    if (receivedBytes > bytes) {
      await this.#disk.remove(path);
      receivedBytes = 0;
    }
    if (receivedBytes === 0) await this.#disk.write(path, new Uint8Array(0));
    const disk = this.#disk;
    const keep = (): Promise<void> => this.#keepIfWhole(path, { digest, bytes });
    return {
      get receivedBytes() {
        return receivedBytes;
      },
      async append(chunk) {
        if (receivedBytes + chunk.length > bytes) {
          throw new StoreError(
            "blob.too-large",
            "More bytes arrived than were announced; they are not kept.",
          );
        }
        await disk.append(path, chunk);
        receivedBytes += chunk.length;
      },
      finish: keep,
    };
  }

  /** Remove every blob that is not in `keep`. @returns how many were removed */
  async prune(keep: ReadonlySet<Sha256>): Promise<number> {
    const superfluous = (await listBlobs(this.#folder)).filter(({ digest }) => !keep.has(digest));
    for (const { digest } of superfluous) await this.remove(digest);
    for (const name of await readdir(join(this.#folder, "arriving"))) {
      const wanted = isDigest(name) && keep.has(sha256(name));
      if (!wanted) await this.#disk.remove(join(this.#folder, "arriving", name));
    }
    return superfluous.length;
  }

  async remove(digest: Sha256): Promise<void> {
    const bytes = await this.bytesOf(digest);
    await this.#disk.remove(this.#path(digest));
    this.#storedBytes -= bytes ?? 0;
  }

  #path(digest: Sha256): string {
    return join(this.#folder, "sha256", digest.slice(0, 2), digest);
  }

  #expectRoom(bytes: number): void {
    if (bytes > storedBlobBytesMax) {
      throw new StoreError(
        "blob.too-large",
        `Tensors of more than ${storedBlobBytesMax} bytes are not kept.`,
      );
    }
    if (this.#storedBytes + bytes > this.#bytesMax) {
      throw new StoreError("blob.store-full", "The agent's blob folder is full; remove old studies from it.");
    }
  }

  async #keepIfWhole(path: string, { digest, bytes }: { digest: Sha256; bytes: number }): Promise<void> {
    const hasher = blobHasher();
    for await (const chunk of createReadStream(path)) hasher.update(chunk);
    if ((await fileBytes(path)) !== bytes || hasher.digest() !== digest) {
      await this.#disk.remove(path);
      throw new StoreError(
        "blob.digest-mismatch",
        "What arrived is not what was announced; it is fetched anew.",
      );
    }
    await this.#keep(path, { digest, bytes });
  }

  async #keep(from: string, { digest, bytes }: { digest: Sha256; bytes: number }): Promise<void> {
    const path = this.#path(digest);
    const replacedBytes = (await this.bytesOf(digest)) ?? 0;
    const isNewFolder = (await mkdir(dirname(path), { recursive: true, mode: 0o700 })) !== undefined;
    await this.#disk.syncFile(from);
    await this.#disk.rename(from, path);
    await this.#disk.syncFolder(dirname(path));
    if (isNewFolder) await this.#disk.syncFolder(join(this.#folder, "sha256"));
    this.#storedBytes += bytes - replacedBytes;
  }

  /** What a crash left of blobs that were being written; arrivals keep their place. */
  async #removeTemporaries(): Promise<void> {
    const names = await readdir(join(this.#folder, "arriving"));
    for (const name of names.filter((one) => one.endsWith(".new"))) {
      await this.#disk.remove(join(this.#folder, "arriving", name));
    }
  }
}

async function listBlobs(folder: string): Promise<{ digest: Sha256; bytes: number }[]> {
  const blobs: { digest: Sha256; bytes: number }[] = [];
  const root = join(folder, "sha256");
  for (const prefix of await readdir(root)) {
    for (const name of await readdir(join(root, prefix))) {
      if (!isDigest(name)) continue;
      blobs.push({ digest: sha256(name), bytes: (await fileBytes(join(root, prefix, name))) ?? 0 });
    }
  }
  return blobs;
}

const isDigest = (name: string): boolean => new RegExp(sha256Pattern).test(name);

async function fileBytes(path: string): Promise<number | null> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
}
