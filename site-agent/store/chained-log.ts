// An append-only file of JSON lines in which every line holds the hash of the one before. An append has happened when
// the file has been fsynced. A line cut off by a crash is dropped on opening; any other damage is refused by its line
// number, because a record that was kept and shown must never silently change.

import { open } from "node:fs/promises";
import { dirname } from "node:path";
import { type Sha256, sha256Pattern } from "@consilium/shared/base/brand.ts";
import type { Clock } from "@consilium/shared/base/clock.ts";
import { MiB } from "@consilium/shared/base/units.ts";
import { documentDigest } from "@consilium/shared/crypto/digest.ts";
import type { Json } from "@consilium/shared/encoding/canonical-json.ts";
import { type Static, type TSchema, Type } from "typebox";
import { Value } from "typebox/value";
import { type Disk, nodeDisk } from "./disk.ts";
import { StoreError } from "./store-error.ts";

/** One line, newline included. A signed document of the largest size fits. */
export const logLineBytesMax = 1 * MiB;
const readChunkBytes = 256 * 1024;
const newline = 0x0a;

const Digest = Type.Unsafe<Sha256>(Type.String({ pattern: sha256Pattern }));
const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });

const Line = Type.Object(
  {
    seq: Count,
    atMs: Count,
    record: Type.Unknown(),
    previous: Digest,
    hash: Digest,
  },
  { additionalProperties: false },
);

export type LogEntry<T> = {
  readonly seq: number;
  readonly atMs: number;
  readonly record: T;
  readonly previous: Sha256;
  readonly hash: Sha256;
};

export type LogOptions<S extends TSchema> = {
  readonly path: string;
  /** Part of the first hash: a file of one log never passes for one of another. */
  readonly name: string;
  readonly schema: S;
  readonly clock: Clock;
  readonly disk?: Disk;
};

export type OpenedLog<S extends TSchema> = {
  readonly log: ChainedLog<Static<S>>;
  readonly entries: readonly LogEntry<Static<S>>[];
  /** Bytes of an unfinished last line that were dropped. */
  readonly droppedBytes: number;
};

/** What an empty log's first line names as its predecessor. */
export function genesisHash(name: string): Sha256 {
  return documentDigest("journal", { log: name });
}

/** @throws StoreError `log.damaged` naming the first line that is not what was written. */
export async function openLog<S extends TSchema>(options: LogOptions<S>): Promise<OpenedLog<S>> {
  const { path, name, schema, clock, disk = nodeDisk } = options;
  const { entries, keptBytes, droppedBytes } = await readLog({ path, name, schema });
  if (droppedBytes > 0) {
    await disk.truncate(path, keptBytes);
    await disk.syncFile(path);
  }
  if (keptBytes === 0) {
    await disk.append(path, new Uint8Array(0));
    await disk.syncFile(path);
    await disk.syncFolder(dirname(path));
  }
  const last = entries.at(-1);
  const tail = { seq: last ? last.seq + 1 : 0, hash: last?.hash ?? genesisHash(name) };
  return { log: new ChainedLog({ path, clock, disk }, tail), entries, droppedBytes };
}

export class ChainedLog<T> {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #disk: Disk;
  #next: { seq: number; hash: Sha256 };
  #queue: Promise<unknown> = Promise.resolve();
  #failed = false;

  /** For `openLog`, which has checked the file. */
  constructor(file: { path: string; clock: Clock; disk: Disk }, tail: { seq: number; hash: Sha256 }) {
    this.#path = file.path;
    this.#clock = file.clock;
    this.#disk = file.disk;
    this.#next = tail;
  }

  /** Hash of the newest entry: the head of the chain. */
  get head(): Sha256 {
    return this.#next.hash;
  }

  /** Entries so far. */
  get size(): number {
    return this.#next.seq;
  }

  /** Resolves when the record is on the disk. Appends happen in the order of the calls. */
  append(record: T): Promise<LogEntry<T>> {
    const appended = this.#queue.then(() => this.#append(record));
    this.#queue = appended.catch(() => undefined); // The caller sees the failure; the next append sees `#failed`.
    return appended;
  }

  async #append(record: T): Promise<LogEntry<T>> {
    if (this.#failed) {
      throw new StoreError(
        "log.failed",
        "An earlier write failed; free disk space and start the agent again.",
      );
    }
    const entry = chained({
      seq: this.#next.seq,
      atMs: this.#clock.nowMs(),
      record,
      previous: this.#next.hash,
    });
    const line = new TextEncoder().encode(`${JSON.stringify(entry)}\n`);
    if (line.length > logLineBytesMax) {
      throw new StoreError("log.entry-too-large", `A record is larger than ${logLineBytesMax} bytes.`);
    }
    try {
      await this.#disk.append(this.#path, line);
      await this.#disk.syncFile(this.#path);
    } catch (cause) {
      this.#failed = true; // Half a line may be there: only opening the file again tells what is.
      throw new StoreError("log.failed", "The disk refused a write; free space and start the agent again.", {
        cause,
      });
    }
    this.#next = { seq: entry.seq + 1, hash: entry.hash };
    return entry;
  }
}

/**
 * Read without opening for writing: for reports beside a running agent.
 * @throws StoreError `log.damaged`
 */
export async function readLog<S extends TSchema>(
  options: Pick<LogOptions<S>, "path" | "name" | "schema">,
): Promise<{ entries: LogEntry<Static<S>>[]; keptBytes: number; droppedBytes: number }> {
  const entries: LogEntry<Static<S>>[] = [];
  let expected = { seq: 0, hash: genesisHash(options.name) };
  let keptBytes = 0;
  let tailBytes = 0;
  for await (const line of lines(options.path)) {
    if (!line.isWhole) {
      tailBytes = line.bytes.length;
      continue;
    }
    const entry = parsedLine(line.bytes, entries.length + 1, { expected, schema: options.schema });
    entries.push(entry);
    expected = { seq: entry.seq + 1, hash: entry.hash };
    keptBytes += line.bytes.length + 1;
  }
  return { entries, keptBytes, droppedBytes: tailBytes };
}

function chained<T>(entry: Omit<LogEntry<T>, "hash">): LogEntry<T> {
  return { ...entry, hash: documentDigest("journal", entry as Json) }; // Every record schema describes JSON.
}

type Expectation<S extends TSchema> = { expected: { seq: number; hash: Sha256 }; schema: S };

function parsedLine<S extends TSchema>(
  bytes: Uint8Array,
  number: number,
  { expected, schema }: Expectation<S>,
): LogEntry<Static<S>> {
  const value = parsedJson(bytes);
  if (!Value.Check(Line, value) || !Value.Check(schema, value.record))
    throw damaged(number, "cannot be read");
  const { seq, atMs, record, previous, hash } = value;
  if (seq !== expected.seq || previous !== expected.hash)
    throw damaged(number, "does not follow the line before");
  const entry = chained({ seq, atMs, record, previous });
  if (entry.hash !== hash) throw damaged(number, "is not what was written");
  return entry;
}

function parsedJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    return undefined; // The schema refuses it; the parser's message would quote the file.
  }
}

function damaged(line: number, fault: string): StoreError {
  const remedy = "Restore the agent's home folder from a backup, or enrol this site anew.";
  return new StoreError("log.damaged", `Line ${line} of the log ${fault}. ${remedy}`);
}

/** Lines without their newline; the last one is not whole when the file does not end in one. */
async function* lines(path: string): AsyncGenerator<{ bytes: Uint8Array; isWhole: boolean }> {
  await using file = await open(path, "r").catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  });
  if (!file) return;
  let rest = Buffer.alloc(0);
  const chunk = Buffer.alloc(readChunkBytes);
  for (let number = 1; ; ) {
    const { bytesRead } = await file.read(chunk, 0, chunk.length);
    if (bytesRead === 0) break;
    rest = Buffer.concat([rest, chunk.subarray(0, bytesRead)]);
    for (let end = rest.indexOf(newline); end >= 0; end = rest.indexOf(newline)) {
      yield { bytes: rest.subarray(0, end), isWhole: true };
      rest = rest.subarray(end + 1);
      number += 1;
    }
    if (rest.length > logLineBytesMax) throw damaged(number, "is longer than any that the agent writes");
  }
  if (rest.length > 0) yield { bytes: rest, isWhole: false };
}
