// Bytes of a checkpoint by offset, from a file or from memory, so that a file of a gigabyte is never held at once.
// Nothing is read beyond the length that was known at the start.

import { readSync } from "node:fs";
import { CheckpointError } from "./checkpoint-error.ts";

export type ByteSource = {
  readonly byteLength: number;
  /** A fresh, aligned copy. @throws CheckpointError checkpoint.truncated outside the source */
  read(byteOffset: number, byteLength: number): Uint8Array<ArrayBuffer>;
};

/** @param descriptor an open file, which stays the caller's */
export function fileSource(descriptor: number, byteLength: number): ByteSource {
  return {
    byteLength,
    read(byteOffset, length) {
      expectRange({ byteOffset, length, byteLength });
      const bytes = new Uint8Array(length);
      for (let done = 0; done < length; ) {
        const count = readSync(descriptor, bytes, done, length - done, byteOffset + done);
        if (count === 0) throw new CheckpointError("checkpoint.truncated");
        done += count;
      }
      return bytes;
    },
  };
}

/** A checkpoint that is in memory already. */
export function memorySource(content: Uint8Array): ByteSource {
  return {
    byteLength: content.byteLength,
    read(byteOffset, length) {
      expectRange({ byteOffset, length, byteLength: content.byteLength });
      return new Uint8Array(content.subarray(byteOffset, byteOffset + length));
    },
  };
}

function expectRange(range: { byteOffset: number; length: number; byteLength: number }): void {
  const { byteOffset, length, byteLength } = range;
  const isWhole = Number.isSafeInteger(byteOffset) && Number.isSafeInteger(length);
  if (isWhole && byteOffset >= 0 && length >= 0 && byteOffset + length <= byteLength) return;
  throw new CheckpointError("checkpoint.truncated", `${byteLength} bytes`);
}
