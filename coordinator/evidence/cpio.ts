// A cpio archive (the portable "newc" form, which cpio, bsdtar and 7-Zip read) with one possible form for given
// contents: regular files in a given order with fixed mode, owner and time. The reader makes every header again from
// name and size and compares all bytes, so an archive has no bit that is neither content nor forced.

export type ArchiveEntry = { readonly name: string; readonly bytes: Uint8Array };

const headerBytes = 110;
const alignment = 4;
const nameBytesMax = 100;
const entriesMax = 100_000;
const endName = "TRAILER!!!";

export class ArchiveError extends Error {
  override name = "ArchiveError";
  readonly code:
    | "archive.truncated"
    | "archive.not-canonical"
    | "archive.trailing-bytes"
    | "archive.too-many";
  constructor(code: ArchiveError["code"], message: string) {
    super(message);
    this.code = code;
  }
}

/** What precedes the `size` bytes of the file that is number `index` in the archive. */
export function entryHeader(name: string, { size, index }: { size: number; index: number }): Uint8Array {
  const isEnd = name === endName;
  const nameLength = new TextEncoder().encode(name).length;
  if (nameLength > nameBytesMax) throw new RangeError("a file name is too long for the archive");
  const [inode, mode, links] = isEnd ? [0, 0, 1] : [index + 1, 0o100644, 1];
  const fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, nameLength + 1, 0];
  const text = `070701${fields.map((field) => field.toString(16).toUpperCase().padStart(8, "0")).join("")}${name}\0`;
  const bytes = new TextEncoder().encode(text);
  const header = new Uint8Array(bytes.length + paddingOf(bytes.length));
  header.set(bytes);
  return header;
}

/** Zero bytes after a file of `size` bytes. */
export function entryPadding(size: number): Uint8Array {
  return new Uint8Array(paddingOf(size));
}

/** What ends an archive. */
export const archiveEnd: Uint8Array = entryHeader(endName, { size: 0, index: 0 });

/** The whole archive in memory. */
export function writeArchive(entries: readonly ArchiveEntry[]): Uint8Array {
  const parts = entries.flatMap(({ name, bytes }, index) => [
    entryHeader(name, { size: bytes.length, index }),
    bytes,
    entryPadding(bytes.length),
  ]);
  return new Uint8Array(Buffer.concat([...parts, archiveEnd]));
}

/** @throws ArchiveError when a byte differs from the one form that this content has */
export function readArchive(archive: Uint8Array): ArchiveEntry[] {
  const entries: ArchiveEntry[] = [];
  for (let at = 0; ; ) {
    const { name, size, header } = readHeader(archive, at, entries.length);
    if (name === endName) {
      const rest = archive.length - at - header.length;
      if (rest > 0)
        throw new ArchiveError("archive.trailing-bytes", `${rest} bytes after the end of the archive`);
      return entries;
    }
    if (entries.length >= entriesMax)
      throw new ArchiveError("archive.too-many", `more than ${entriesMax} files`);
    const bytes = take(archive, at + header.length, size);
    const padding = take(archive, at + header.length + size, paddingOf(size));
    if (padding.some((byte) => byte !== 0))
      throw new ArchiveError("archive.not-canonical", `bytes hidden behind ${name}`);
    entries.push({ name, bytes });
    at += header.length + size + padding.length;
  }
}

function readHeader(
  archive: Uint8Array,
  at: number,
  index: number,
): { name: string; size: number; header: Uint8Array } {
  const latin1 = new TextDecoder("latin1");
  const fixed = latin1.decode(take(archive, at, headerBytes));
  const field = (number: number): number => Number.parseInt(fixed.slice(6 + 8 * number, 14 + 8 * number), 16);
  const [size, nameSize] = [field(6), field(11)];
  const plausible = size >= 0 && nameSize > 0 && nameSize <= nameBytesMax + 1;
  if (!plausible) throw notCanonical();
  const name = latin1.decode(take(archive, at + headerBytes, nameSize)).slice(0, -1);
  // A name outside ASCII has another length in UTF-8, so it cannot give this header again.
  if (!/^[\x20-\x7e]+$/.test(name)) throw notCanonical();
  const expected = name === endName ? archiveEnd : entryHeader(name, { size, index });
  const found = take(archive, at, expected.length);
  if (expected.some((byte, position) => byte !== found[position])) throw notCanonical();
  return { name, size, header: expected };
}

function notCanonical(): ArchiveError {
  return new ArchiveError("archive.not-canonical", "a file header is not in the form that bundles have");
}

function take(archive: Uint8Array, at: number, length: number): Uint8Array {
  if (at + length > archive.length) throw new ArchiveError("archive.truncated", "the archive ends too early");
  return archive.subarray(at, at + length);
}

function paddingOf(size: number): number {
  return (alignment - (size % alignment)) % alignment;
}
