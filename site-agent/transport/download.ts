// A blob from the coordinator into the store: resumed by offset after every interruption, checked against its digest
// before it can be read. It takes no more bytes than were announced.

import type { Sha256 } from "@consilium/shared/base/brand.ts";
import type { BlobArrival, BlobStore } from "../store/blobs.ts";
import type { BlobRange } from "./coordinator-client.ts";
import type { Answer } from "./exchange.ts";
import { type Patience, persist } from "./patience.ts";

export type BlobReference = { readonly sha256: Sha256; readonly bytes: number };

export type BlobSource = {
  blob(
    range: BlobRange,
    onBody: (chunks: AsyncIterable<Uint8Array>, answer: Answer) => Promise<void>,
  ): Promise<void>;
};

export type DownloadOptions = Patience & { readonly signal?: AbortSignal | undefined };

/** @throws StoreError, ProtocolError, TransportError */
export async function download(
  source: BlobSource,
  { blobs, reference }: { blobs: BlobStore; reference: BlobReference },
  options: DownloadOptions,
): Promise<void> {
  const { sha256, bytes } = reference;
  if ((await blobs.bytesOf(sha256)) === bytes) return;
  await persist(async (progressed) => {
    const arrival = await blobs.arrive(sha256, bytes);
    if (arrival.receivedBytes < bytes) {
      const range = { sha256, fromByte: arrival.receivedBytes, signal: options.signal };
      await source.blob(range, (chunks, { status }) =>
        received(chunks, { arrival, skip: status === 206 ? 0 : arrival.receivedBytes, progressed }),
      );
    }
    await arrival.finish();
  }, options);
}

type Reception = { readonly arrival: BlobArrival; readonly skip: number; readonly progressed: () => void };

/** A coordinator that did not heed the offset sends everything; what is here already is skipped. */
async function received(
  chunks: AsyncIterable<Uint8Array>,
  { arrival, skip, progressed }: Reception,
): Promise<void> {
  let toSkip = skip;
  for await (const chunk of chunks) {
    const fresh = chunk.subarray(Math.min(toSkip, chunk.length));
    toSkip -= chunk.length - fresh.length;
    if (fresh.length === 0) continue;
    await arrival.append(fresh);
    progressed();
  }
}
