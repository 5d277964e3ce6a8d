// A file on its way to the coordinator, in chunks under its digest.

import { closeSync, openSync, readSync, statSync } from "node:fs";
import type { Sha256 } from "@consilium/shared/base/brand.ts";
import { blobHasher } from "@consilium/shared/crypto/digest.ts";
import { uploadChunkBytesMax } from "@consilium/shared/protocol/limits.ts";
import type { OperatorClient } from "./operator-client.ts";

/** @returns the digest under which the coordinator now has the file */
export async function uploadFile(connection: OperatorClient, file: string): Promise<Sha256> {
  const length = statSync(file).size;
  const descriptor = openSync(file, "r");
  try {
    const piece = new Uint8Array(uploadChunkBytesMax);
    const hasher = blobHasher();
    for (let at = 0; at < length; ) {
      const count = readSync(descriptor, piece, 0, piece.length, at);
      hasher.update(piece.subarray(0, count));
      at += count;
    }
    const sha256 = hasher.digest();
    for (let offset = 0; offset < length; ) {
      const count = readSync(descriptor, piece, 0, piece.length, offset);
      await connection.uploadChunk(sha256, { offset, length, bytes: piece.subarray(0, count) });
      offset += count;
    }
    return sha256;
  } finally {
    closeSync(descriptor);
  }
}
