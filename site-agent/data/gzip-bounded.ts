// Inflating gzip streams of unknown origin in bounded memory. What a stream may grow to is decided from the first bytes
// of its content, before the rest is inflated; a stream that outgrows it, breaks off or is followed by other bytes is
// refused with a code.

import { promisify } from "node:util";
import { constants, gunzip } from "node:zlib";
import { NiftiError } from "./nifti-error.ts";

const gunzipAsync = promisify(gunzip);

/** Compressed bytes looked at first. Deflate expands at most 1032-fold, so this inflates to 17 MiB at most. */
const PEEK_BYTES = 16 * 1024;
const PEEK_OUTPUT_BYTES_MAX = PEEK_BYTES * 1100;

export function isGzip(bytes: Uint8Array): boolean {
  return bytes[0] === 0x1f && bytes[1] === 0x8b;
}

/** The beginning of the content, as far as the first compressed bytes reach. */
export async function inflateStart(compressed: Uint8Array): Promise<Uint8Array> {
  return inflate(compressed.subarray(0, PEEK_BYTES), {
    maxOutputLength: PEEK_OUTPUT_BYTES_MAX,
    finishFlush: constants.Z_SYNC_FLUSH, // The start of a stream is not its end: what is there is enough.
  });
}

/**
 * The whole content, of at most `bytesMax` bytes. Zero padding after the stream is allowed, as by gzip itself.
 * @throws NiftiError nifti.gzip.large beyond the bound, nifti.gzip.damaged for anything else.
 */
export async function inflateAll(compressed: Uint8Array, bytesMax: number): Promise<Uint8Array> {
  return inflate(compressed, { maxOutputLength: bytesMax });
}

async function inflate(
  compressed: Uint8Array,
  options: { maxOutputLength: number; finishFlush?: number },
): Promise<Uint8Array> {
  try {
    return await gunzipAsync(compressed, options);
  } catch (cause) {
    const isTooLarge = cause instanceof RangeError; // Node's ERR_BUFFER_TOO_LARGE; zlib's own faults are plain errors.
    throw new NiftiError(isTooLarge ? "nifti.gzip.large" : "nifti.gzip.damaged", { cause });
  }
}
