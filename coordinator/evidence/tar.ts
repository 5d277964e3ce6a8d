// A tar archive (POSIX ustar) with one possible form for given contents: regular files in a given order, fixed mode,
// owner and time, nothing else. The reader makes the header again from name and size and compares every byte, so an
// archive has no bit that is not either content or forced.

export type TarEntry = { readonly name: string; readonly bytes: Uint8Array };

const block = 512;
/** A bundle holds a log, a checkpoint, keys and blobs. */
const entriesMax = 100_000;
const nameBytesMax = 100;

export class TarError extends Error {
  override name = "TarError";
  readonly code: "tar.truncated" | "tar.not-canonical" | "tar.trailing-bytes" | "tar.too-many";
  constructor(code: TarError["code"], message: string) {
    super(message);
    this.code = code;
  }
}

/** The header of one file: 512 bytes. */
export function tarHeader(name: string, size: number): Uint8Array {
  const header = new Uint8Array(block);
  const put = (text: string, at: number): void => header.set(new TextEncoder().encode(text), at);
  if (new TextEncoder().encode(name).length > nameBytesMax)
    throw new RangeError("a file name is too long for the archive");
  put(name, 0);
  put("0000644\0", 100);
  put("0000000\0", 108);
  put("0000000\0", 116);
  put(`${size.toString(8).padStart(11, "0")}\0`, 124);
  put("00000000000\0", 136);
  put("        ", 148);
  put("0", 156);
  put("ustar\x0000", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  put(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return header;
}

/** Zero bytes after a file of `size` bytes. */
export function tarPadding(size: number): Uint8Array {
  return new Uint8Array((block - (size % block)) % block);
}

/** Two empty blocks end the archive. */
export const tarEnd: Uint8Array = new Uint8Array(2 * block);

/** @throws TarError when a byte differs from the one form that this content has */
export function readTar(archive: Uint8Array): TarEntry[] {
  const entries: TarEntry[] = [];
  for (let at = 0; ; ) {
    const header = take(archive, at, block);
    if (header.every((byte) => byte === 0)) {
      const end = take(archive, at, tarEnd.length);
      if (end.some((byte) => byte !== 0))
        throw new TarError("tar.not-canonical", "the end of the archive is not empty");
      if (at + tarEnd.length !== archive.length)
        throw new TarError(
          "tar.trailing-bytes",
          `${archive.length - at - tarEnd.length} bytes after the end of the archive`,
        );
      return entries;
    }
    if (entries.length >= entriesMax) throw new TarError("tar.too-many", `more than ${entriesMax} files`);
    const { name, size } = readHeader(header);
    const bytes = take(archive, at + block, size);
    const padding = take(archive, at + block + size, tarPadding(size).length);
    if (padding.some((byte) => byte !== 0))
      throw new TarError("tar.not-canonical", `bytes hidden behind ${name}`);
    entries.push({ name, bytes });
    at += block + size + padding.length;
  }
}

function readHeader(header: Uint8Array): { name: string; size: number } {
  const text = (from: number, to: number): string =>
    new TextDecoder("latin1").decode(header.subarray(from, to));
  const name = text(0, nameBytesMax).replace(/\0.*$/s, "");
  const size = Number.parseInt(text(124, 135), 8);
  const expected = Number.isSafeInteger(size) && size >= 0 ? tarHeader(name, size) : null;
  if (!expected?.every((byte, index) => byte === header[index])) {
    throw new TarError("tar.not-canonical", "a file header is not in the form that bundles have");
  }
  return { name, size };
}

function take(archive: Uint8Array, at: number, length: number): Uint8Array {
  if (at + length > archive.length) throw new TarError("tar.truncated", "the archive ends too early");
  return archive.subarray(at, at + length);
}
