// Takes single files out of wheels and jars. The digest has been checked before, and still nothing in the archive is
// believed: sizes, names and kinds are bounded and compared, and what does not fit ends the set-up. It follows no links,
// makes none, and reads no zip64, which files below four gigabytes do not need.

import { createReadStream, createWriteStream } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { crc32, createInflateRaw } from "node:zlib";
import { NativeError } from "./native-error.ts";

export const ARCHIVE_ENTRIES_MAX = 65_534;
const DIRECTORY_BYTES_MAX = 32 * 1024 * 1024;
const NAME_BYTES_MAX = 1024;
const COMMENT_BYTES_MAX = 0xffff;
const ABSENT_32 = 0xffffffff;
const END = { signature: 0x06054b50, byteLength: 22 };
const CENTRAL = { signature: 0x02014b50, byteLength: 46 };
const LOCAL = { signature: 0x04034b50, byteLength: 30 };
/** Bits 1 and 2 tell how hard the writer tried, bit 3 that sizes follow the data, bit 11 that names are UTF-8. */
const FLAGS_ALLOWED = 0x080e;
const MADE_ON_UNIX = 3;
const FILE_KIND = { mask: 0o170000, regular: 0o100000 };

export type ArchiveEntry = {
  readonly name: string;
  readonly byteLength: number;
  readonly storedLength: number;
  readonly isDeflated: boolean;
  readonly crc32: number;
  readonly headerOffset: number;
  readonly isExecutable: boolean;
};

export type Archive = {
  readonly file: string;
  readonly entries: ReadonlyMap<string, ArchiveEntry>;
  /** Where the directory begins; entries lie before it. */
  readonly dataEnd: number;
};

function malformed(detail: string): NativeError {
  return new NativeError("native.archive", detail);
}

/** @throws NativeError native.archive */
export async function openArchive(file: string): Promise<Archive> {
  await using handle = await open(file);
  const { size } = await handle.stat();
  const { count, byteOffset, byteLength } = await findDirectory(handle, size);
  const directory = await read(handle, byteOffset, byteLength);
  const entries = new Map<string, ArchiveEntry>();
  let at = 0;
  for (let index = 0; index < count; index += 1) {
    const { entry, next } = readEntry(directory, at);
    if (entries.has(entry.name)) throw malformed("one name twice");
    entries.set(entry.name, entry);
    at = next;
  }
  if (at !== directory.length) throw malformed("bytes after the directory");
  return { file, entries, dataEnd: byteOffset };
}

async function read(handle: FileHandle, byteOffset: number, byteLength: number): Promise<Buffer> {
  const bytes = Buffer.alloc(byteLength);
  for (let done = 0; done < byteLength; ) {
    const { bytesRead } = await handle.read(bytes, done, byteLength - done, byteOffset + done);
    if (bytesRead === 0) throw malformed("cut short");
    done += bytesRead;
  }
  return bytes;
}

type Directory = { readonly count: number; readonly byteOffset: number; readonly byteLength: number };

async function findDirectory(handle: FileHandle, size: number): Promise<Directory> {
  const tailLength = Math.min(size, END.byteLength + COMMENT_BYTES_MAX);
  const tail = await read(handle, size - tailLength, tailLength);
  for (let at = tailLength - END.byteLength; at >= 0; at -= 1) {
    if (tail.readUInt32LE(at) !== END.signature) continue;
    if (at + END.byteLength + tail.readUInt16LE(at + 20) !== tailLength) continue;
    const count = tail.readUInt16LE(at + 10);
    const [byteLength, byteOffset] = [tail.readUInt32LE(at + 12), tail.readUInt32LE(at + 16)];
    if (tail.readUInt32LE(at + 4) !== 0 || tail.readUInt16LE(at + 8) !== count)
      throw malformed("several disks");
    if (count > ARCHIVE_ENTRIES_MAX || byteLength > DIRECTORY_BYTES_MAX) throw malformed("too many entries");
    if (byteOffset + byteLength !== size - tailLength + at) throw malformed("bytes about the directory");
    return { count, byteOffset, byteLength };
  }
  throw malformed("no end of the archive");
}

function readEntry(directory: Buffer, at: number): { entry: ArchiveEntry; next: number } {
  if (at + CENTRAL.byteLength > directory.length) throw malformed("directory cut short");
  if (directory.readUInt32LE(at) !== CENTRAL.signature) throw malformed("directory entry");
  const nameLength = directory.readUInt16LE(at + 28);
  const nameEnd = at + CENTRAL.byteLength + nameLength;
  const next = nameEnd + directory.readUInt16LE(at + 30) + directory.readUInt16LE(at + 32);
  if (next > directory.length || nameLength > NAME_BYTES_MAX) throw malformed("directory entry");
  const method = directory.readUInt16LE(at + 10);
  if ((directory.readUInt16LE(at + 8) & ~FLAGS_ALLOWED) !== 0) throw malformed("flags");
  if (method !== 0 && method !== 8) throw malformed("an unknown compression");
  const entry = {
    name: safeName(directory.subarray(at + CENTRAL.byteLength, nameEnd)),
    crc32: directory.readUInt32LE(at + 16),
    storedLength: directory.readUInt32LE(at + 20),
    byteLength: directory.readUInt32LE(at + 24),
    headerOffset: directory.readUInt32LE(at + 42),
    isDeflated: method === 8,
    isExecutable: isExecutable(directory.readUInt16LE(at + 4) >> 8, directory.readUInt32LE(at + 38) >>> 16),
  };
  const isWide = [entry.storedLength, entry.byteLength, entry.headerOffset].includes(ABSENT_32);
  if (isWide || (method === 0 && entry.byteLength !== entry.storedLength)) throw malformed("sizes");
  return { entry, next };
}

/** @throws NativeError for links and devices, which no wheel has */
function isExecutable(system: number, mode: number): boolean {
  if (system !== MADE_ON_UNIX) return false;
  const kind = mode & FILE_KIND.mask;
  const isFolder = kind === 0o040000;
  if (kind !== 0 && kind !== FILE_KIND.regular && !isFolder) throw malformed("something that is no file");
  return !isFolder && (mode & 0o111) !== 0;
}

/** A relative path of plain segments, with a slash at the end where it is a folder. */
function safeName(bytes: Buffer): string {
  const name = bytes.toString("utf8");
  const segments = (name.endsWith("/") ? name.slice(0, -1) : name).split("/");
  const isPlain = segments.every((part) => part !== "" && part !== "." && part !== "..");
  if (!isPlain || /[\\:\p{Cc}\uFFFD]/u.test(name)) throw malformed("a name that is no plain path");
  return name;
}

/**
 * Write one entry to a new file.
 * @throws NativeError native.archive when it is not what the directory says
 */
export async function extractEntry(archive: Archive, entry: ArchiveEntry, to: string): Promise<void> {
  const start = await dataOffset(archive, entry);
  const mode = entry.isExecutable ? 0o755 : 0o644;
  const output = createWriteStream(to, { flags: "wx", mode });
  const checked = boundedAndChecked(entry);
  if (entry.storedLength === 0) return pipeline([Buffer.alloc(0)], checked, output);
  const input = createReadStream(archive.file, { start, end: start + entry.storedLength - 1 });
  try {
    if (entry.isDeflated) await pipeline(input, createInflateRaw(), checked, output);
    else await pipeline(input, checked, output);
  } catch (error) {
    if (error instanceof NativeError || !isDamage(error)) throw error;
    throw new NativeError("native.archive", "compressed data", { cause: error });
  }
}

const isDamage = (error: unknown): boolean =>
  error instanceof Error && "code" in error && String(error.code).startsWith("Z_");

/** The local header must name the same file; sizes are the directory's alone. */
async function dataOffset(archive: Archive, entry: ArchiveEntry): Promise<number> {
  await using handle = await open(archive.file);
  const header = await read(handle, entry.headerOffset, LOCAL.byteLength);
  if (header.readUInt32LE(0) !== LOCAL.signature) throw malformed("local header");
  const nameLength = Math.min(header.readUInt16LE(26), NAME_BYTES_MAX);
  const name = await read(handle, entry.headerOffset + LOCAL.byteLength, nameLength);
  if (name.toString("utf8") !== entry.name) throw malformed("two names for one entry");
  const start = entry.headerOffset + LOCAL.byteLength + nameLength + header.readUInt16LE(28);
  if (start + entry.storedLength > archive.dataEnd) throw malformed("an entry over the directory");
  return start;
}

function boundedAndChecked(entry: ArchiveEntry): Transform {
  let byteLength = 0;
  let checksum = 0;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      byteLength += chunk.length;
      checksum = crc32(chunk, checksum);
      if (byteLength > entry.byteLength) done(malformed("more data than announced"));
      else done(null, chunk);
    },
    flush(done) {
      if (byteLength !== entry.byteLength) done(malformed("less data than announced"));
      else if (checksum !== entry.crc32) done(malformed("a checksum that does not fit"));
      else done();
    },
  });
}
