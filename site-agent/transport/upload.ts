// A sealed update's tensors to the coordinator, in chunks, resumed at the offset that the coordinator names. It takes
// nothing but sealed updates, so that nothing unprotected can be put on the way.

import type { Sha256 } from "@consilium/shared/base/brand.ts";
import { uploadChunkBytesMax } from "@consilium/shared/protocol/limits.ts";
import type { UploadChunk } from "./coordinator-client.ts";
import { type Patience, persist } from "./patience.ts";
import type { SealedTensors } from "./seal.ts";
import { TransportError } from "./transport-error.ts";

export type UploadTarget = {
  uploadOffset(sha256: Sha256, signal?: AbortSignal): Promise<number>;
  uploadChunk(chunk: UploadChunk): Promise<{ offset: number; isComplete: boolean }>;
};

export type UploadOptions = Patience & {
  readonly signal?: AbortSignal | undefined;
  readonly chunkBytes?: number;
  readonly onProgress?: (sentBytes: number) => void;
};

/** Resolves when the coordinator holds every byte. @throws ProtocolError, TransportError */
export async function upload(
  target: UploadTarget,
  { sha256, bytes }: SealedTensors,
  options: UploadOptions,
): Promise<void> {
  const { signal, chunkBytes = uploadChunkBytesMax, onProgress } = options;
  await persist(async (progressed) => {
    let offset = await target.uploadOffset(sha256, signal);
    while (offset < bytes.length) {
      const chunk = bytes.subarray(offset, offset + chunkBytes);
      const next = await target.uploadChunk({
        sha256,
        offset,
        totalBytes: bytes.length,
        bytes: chunk,
        signal,
      });
      if (next.offset <= offset) throw new TransportError("transport.answer-malformed"); // It would never end.
      offset = next.offset;
      progressed();
      onProgress?.(offset);
      if (next.isComplete) return;
    }
    if (offset > bytes.length) throw new TransportError("transport.answer-malformed");
  }, options);
}
