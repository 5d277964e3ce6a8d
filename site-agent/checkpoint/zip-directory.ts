// The directory of a zip container as torch.save writes it: stored entries, zip64 allowed. It refuses compression,
// encryption, several disks, names that repeat, entries that share bytes, and anything between the directory and the
// end of the file, so that no two readers can see two different checkpoints in the same bytes.
// Format: PKWARE APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3.

import type { ByteSource } from "./byte-source.ts";
import { CheckpointError } from "./checkpoint-error.ts";

/** Where an entry's bytes lie in the file. */
export type ZipEntry = { readonly byteOffset: number; readonly byteLength: number; readonly crc32: number };

export const ZIP_ENTRY_COUNT_MAX = 32_768;
const DIRECTORY_BYTES_MAX = 16 * 1024 * 1024;
const NAME_BYTES_MAX = 1024;
const COMMENT_BYTES_MAX = 0xffff;

const END = { signature: 0x06054b50, byteLength: 22 };
const END_64 = { signature: 0x06064b50, byteLength: 56 };
const LOCATOR_64 = { signature: 0x07064b50, byteLength: 20 };
const CENTRAL = { signature: 0x02014b50, byteLength: 46 };
const LOCAL = { signature: 0x04034b50, byteLength: 30 };
const EXTRA_ZIP64 = 0x0001;
const ABSENT_16 = 0xffff;
const ABSENT_32 = 0xffffffff;
/** Bit 3: sizes follow the data; bit 11: names are UTF-8. PyTorch sets both; all others change the meaning. */
const FLAGS_ALLOWED = 0x0808;

type Directory = { readonly count: number; readonly byteOffset: number; readonly byteLength: number };
type CentralEntry = {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly crc32: number;
  readonly byteLength: number;
  readonly headerOffset: number;
};

/**
 * Entries by name, in the order of the directory.
 * @throws CheckpointError checkpoint.zip.*, checkpoint.truncated
 */
export function readZipDirectory(source: ByteSource): ReadonlyMap<string, ZipEntry> {
  const directory = findDirectory(source);
  const central = readCentral(source.read(directory.byteOffset, directory.byteLength), directory.count);
  const entries = new Map<string, ZipEntry>();
  const byPlace = [...central].sort((a, b) => a.headerOffset - b.headerOffset);
  const placed = new Map<CentralEntry, ZipEntry>();
  let end = 0;
  for (const entry of byPlace) {
    if (entry.headerOffset < end) throw new CheckpointError("checkpoint.zip.overlap");
    const byteOffset = dataOffset(source, entry);
    end = byteOffset + entry.byteLength;
    if (end > directory.byteOffset) throw new CheckpointError("checkpoint.zip.overlap");
    placed.set(entry, { byteOffset, byteLength: entry.byteLength, crc32: entry.crc32 });
  }
  for (const entry of central) {
    if (entries.has(entry.name)) throw new CheckpointError("checkpoint.zip.duplicate");
    const at = placed.get(entry);
    if (at) entries.set(entry.name, at);
  }
  return entries;
}

function malformed(detail: string): CheckpointError {
  return new CheckpointError("checkpoint.zip.malformed", detail);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A 64-bit size or offset; what no file can have is refused here. */
function size64(view: DataView, position: number): number {
  const value = view.getBigUint64(position, true);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw malformed("a size beyond all files");
  return Number(value);
}

function findDirectory(source: ByteSource): Directory {
  const tailBytes = Math.min(source.byteLength, END.byteLength + COMMENT_BYTES_MAX);
  const tailOffset = source.byteLength - tailBytes;
  const tail = viewOf(source.read(tailOffset, tailBytes));
  for (let at = tailBytes - END.byteLength; at >= 0; at -= 1) {
    if (tail.getUint32(at, true) !== END.signature) continue;
    if (at + END.byteLength + tail.getUint16(at + 20, true) !== tailBytes) continue;
    return directoryAt(source, { tail, at, endOffset: tailOffset + at });
  }
  throw new CheckpointError("checkpoint.truncated", "no end of the zip container");
}

function directoryAt(
  source: ByteSource,
  { tail, at, endOffset }: { tail: DataView; at: number; endOffset: number },
): Directory {
  const disks = [tail.getUint16(at + 4, true), tail.getUint16(at + 6, true)];
  const classic = {
    count: tail.getUint16(at + 10, true),
    byteLength: tail.getUint32(at + 12, true),
    byteOffset: tail.getUint32(at + 16, true),
  };
  if (disks.some((disk) => disk !== 0) || tail.getUint16(at + 8, true) !== classic.count) {
    throw malformed("several disks");
  }
  const large = readEnd64(source, endOffset);
  const directory = large ? merged(classic, large.directory) : classic;
  if (directory.count > ZIP_ENTRY_COUNT_MAX || directory.byteLength > DIRECTORY_BYTES_MAX) {
    throw malformed(`more than ${ZIP_ENTRY_COUNT_MAX} entries`);
  }
  if (directory.byteOffset + directory.byteLength !== (large?.endOffset ?? endOffset)) {
    throw malformed("bytes about the directory");
  }
  return directory;
}

/** The zip64 record, which a locator just before the classic end points to; null where there is no locator. */
function readEnd64(
  source: ByteSource,
  endOffset: number,
): { readonly directory: Directory; readonly endOffset: number } | null {
  if (endOffset < LOCATOR_64.byteLength) return null;
  const locator = viewOf(source.read(endOffset - LOCATOR_64.byteLength, LOCATOR_64.byteLength));
  if (locator.getUint32(0, true) !== LOCATOR_64.signature) return null;
  const at = size64(locator, 8);
  if (at + END_64.byteLength + LOCATOR_64.byteLength !== endOffset) throw malformed("zip64 end");
  const end = viewOf(source.read(at, END_64.byteLength));
  const isWhole = end.getUint32(0, true) === END_64.signature && size64(end, 4) === END_64.byteLength - 12;
  const isOneDisk = end.getUint32(16, true) === 0 && end.getUint32(20, true) === 0;
  const count = size64(end, 32);
  if (!isWhole || !isOneDisk || size64(end, 24) !== count) throw malformed("zip64 end");
  return { directory: { count, byteLength: size64(end, 40), byteOffset: size64(end, 48) }, endOffset: at };
}

/** Both ends are there in PyTorch's files; where the classic one has a value, both must say the same. */
function merged(classic: Directory, large: Directory): Directory {
  const agrees = (small: number, absent: number, wide: number): boolean => small === absent || small === wide;
  if (
    agrees(classic.count, ABSENT_16, large.count) &&
    agrees(classic.byteLength, ABSENT_32, large.byteLength) &&
    agrees(classic.byteOffset, ABSENT_32, large.byteOffset)
  ) {
    return large;
  }
  throw malformed("two ends that differ");
}

function readCentral(bytes: Uint8Array, count: number): CentralEntry[] {
  const view = viewOf(bytes);
  const entries: CentralEntry[] = [];
  let at = 0;
  for (let index = 0; index < count; index += 1) {
    if (at + CENTRAL.byteLength > bytes.byteLength) throw malformed("directory cut short");
    if (view.getUint32(at, true) !== CENTRAL.signature) throw malformed(`directory entry ${index}`);
    const nameBytes = view.getUint16(at + 28, true);
    const extraBytes = view.getUint16(at + 30, true);
    const next = at + CENTRAL.byteLength + nameBytes + extraBytes + view.getUint16(at + 32, true);
    if (next > bytes.byteLength || nameBytes > NAME_BYTES_MAX) throw malformed(`directory entry ${index}`);
    entries.push(centralEntry(bytes, { at, nameBytes, extraBytes }));
    at = next;
  }
  if (at !== bytes.byteLength) throw malformed("bytes after the directory");
  return entries;
}

function centralEntry(
  bytes: Uint8Array,
  { at, nameBytes, extraBytes }: { at: number; nameBytes: number; extraBytes: number },
): CentralEntry {
  const view = viewOf(bytes);
  expectStored(view.getUint16(at + 8, true), view.getUint16(at + 10, true));
  if (view.getUint16(at + 34, true) !== 0) throw malformed("several disks");
  const nameStart = at + CENTRAL.byteLength;
  const name = bytes.slice(nameStart, nameStart + nameBytes);
  const extraStart = nameStart + nameBytes;
  const wide = zip64Fields(viewOf(bytes.subarray(extraStart, extraStart + extraBytes)));
  const widened = (value: number): number => (value === ABSENT_32 ? wide() : value);
  const uncompressed = widened(view.getUint32(at + 24, true));
  const compressed = widened(view.getUint32(at + 20, true));
  const headerOffset = widened(view.getUint32(at + 42, true));
  if (uncompressed !== compressed) throw new CheckpointError("checkpoint.zip.compressed");
  return {
    name: decodeName(name),
    nameBytes: name,
    crc32: view.getUint32(at + 16, true),
    byteLength: compressed,
    headerOffset,
  };
}

function expectStored(flags: number, method: number): void {
  if (method !== 0 || (flags & 0x0001) !== 0) throw new CheckpointError("checkpoint.zip.compressed");
  if ((flags & ~FLAGS_ALLOWED) !== 0) throw malformed("flags");
}

/** The values of the zip64 extra field one after another, in their fixed order. */
function zip64Fields(extra: DataView): () => number {
  let next = 0;
  let end = 0;
  for (let at = 0; at + 4 <= extra.byteLength; ) {
    const byteLength = extra.getUint16(at + 2, true);
    if (at + 4 + byteLength > extra.byteLength) throw malformed("extra field");
    if (extra.getUint16(at, true) === EXTRA_ZIP64) {
      if (end > 0) throw malformed("two zip64 fields");
      next = at + 4;
      end = next + byteLength;
    }
    at += 4 + byteLength;
  }
  return () => {
    if (next + 8 > end) throw malformed("a zip64 size is missing");
    next += 8;
    return size64(extra, next - 8);
  };
}

function decodeName(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw malformed("a name that is not text");
  }
}

/** Sizes come from the directory alone: PyTorch leaves those of the local header at zero. Lengths are the local ones. */
function dataOffset(source: ByteSource, entry: CentralEntry): number {
  const header = viewOf(source.read(entry.headerOffset, LOCAL.byteLength));
  if (header.getUint32(0, true) !== LOCAL.signature) throw malformed("local header");
  expectStored(header.getUint16(6, true), header.getUint16(8, true));
  const nameBytes = header.getUint16(26, true);
  const name = source.read(entry.headerOffset + LOCAL.byteLength, Math.min(nameBytes, NAME_BYTES_MAX));
  if (name.length !== entry.nameBytes.length || name.some((byte, index) => byte !== entry.nameBytes[index])) {
    throw malformed("two names for one entry");
  }
  return entry.headerOffset + LOCAL.byteLength + nameBytes + header.getUint16(28, true);
}
