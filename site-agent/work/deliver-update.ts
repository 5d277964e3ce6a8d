// A prepared update's tensors from the store to the coordinator: exactly the bytes that were sealed, also after a
// restart.

import type { PreparedUpdate } from "@consilium/shared/protocol/site-session.ts";
import { resealed } from "../transport/seal.ts";
import { upload } from "../transport/upload.ts";
import type { SitePorts } from "./site-ports.ts";
import { StudyError } from "./study-error.ts";

/** @throws StoreError, StudyError, ProtocolError, TransportError */
export async function deliverUpdate(
  { blobs, identity, client, patience }: SitePorts,
  { delta, envelope }: PreparedUpdate,
  signal: AbortSignal,
): Promise<void> {
  const tensors = resealed(envelope, await blobs.read(delta), identity);
  if (!tensors) throw new StudyError("weights.other");
  await upload(client, tensors, { ...patience, signal });
}
