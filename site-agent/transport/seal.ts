// From a protected delta to what may be sent: the tensors as a bundle, and the site's signed statement about exactly
// these bytes. The only maker of sealed updates; a raw delta has no way in.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { Brand, Sha256 } from "@consilium/shared/base/brand.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import { type Envelope, openEnvelope, seal } from "@consilium/shared/crypto/envelope.ts";
import { float32Tensor, writeTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";
import { UpdateDocument, type UpdateStatement } from "@consilium/shared/protocol/documents.ts";
import type { ProtectedDelta } from "../privacy/protect.ts";
import type { SiteIdentity } from "./session.ts";

/** Bytes about which this site has signed a statement. */
export type SealedTensors = Brand<{ readonly sha256: Sha256; readonly bytes: Uint8Array }, "SealedTensors">;

export type SealedUpdate = {
  readonly statement: UpdateStatement;
  readonly envelope: Envelope;
  readonly tensors: SealedTensors;
};

/** What the site says about an update beside what the tensors and its identity say. */
export type UpdateAccount = Omit<UpdateStatement, "origin" | "site" | "delta" | "normL2">;

export function sealUpdate(
  { manifest, values, normL2 }: ProtectedDelta,
  account: UpdateAccount,
  { origin, site, key }: SiteIdentity,
): SealedUpdate {
  const tensors = manifest.map(({ name, shape }) =>
    float32Tensor(name, shape, expectDefined(values.get(name), "a tensor of the protected delta")),
  );
  const bytes = writeTensorBundle(tensors);
  const sha256 = blobDigest(bytes);
  const statement = { ...account, origin, site, delta: { sha256, bytes: bytes.length }, normL2 };
  return {
    statement,
    envelope: seal(UpdateDocument, statement, key),
    tensors: { sha256, bytes } as SealedTensors, // Minted here: the statement above names this digest.
  };
}

/**
 * An update that was sealed before a restart: its envelope from the journal, its tensors from the store.
 * @throws EnvelopeError when this site has not signed it; null when the tensors are not those it signed.
 */
export function resealed(
  envelope: Envelope,
  bytes: Uint8Array,
  { key }: Pick<SiteIdentity, "key">,
): SealedTensors | null {
  const { delta } = openEnvelope(UpdateDocument, envelope, key.publicKey);
  const isSame = delta.bytes === bytes.length && delta.sha256 === blobDigest(bytes);
  return isSame ? ({ sha256: delta.sha256, bytes } as SealedTensors) : null; // Minted here: signed before.
}
