// SHA-256 in its two roles: plain, as the address of a blob that anyone can check with `sha256sum`, and with a
// domain in front, as the digest of a document, so that a document of one kind never passes for one of another.

import { createHash } from "node:crypto";
import type { Sha256 } from "../base/brand.ts";
import { encodeCanonicalJson, type Json } from "../encoding/canonical-json.ts";

/** Kinds of documents that have a digest of their own. */
export type DigestDomain =
  | "plan"
  | "model-version"
  | "parameter-manifest"
  | "envelope"
  | "journal"
  | "invitation";

export function sha256Bytes(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return new Uint8Array(hash.digest());
}

/** Address of a blob: SHA-256 of its bytes and nothing else. */
export function blobDigest(bytes: Uint8Array): Sha256 {
  return createHash("sha256").update(bytes).digest("hex") as Sha256; // 64 hexadecimal digits by construction.
}

/** A running blob digest for streams. */
export function blobHasher(): { update(bytes: Uint8Array): void; digest(): Sha256 } {
  const hash = createHash("sha256");
  return {
    update: (bytes) => void hash.update(bytes),
    digest: () => hash.digest("hex") as Sha256, // 64 hexadecimal digits by construction.
  };
}

/** SHA-256("consilium/<domain>/v1" NUL canonical JSON). */
export function documentDigest(domain: DigestDomain, document: Json): Sha256 {
  return createHash("sha256")
    .update(`consilium/${domain}/v1\0`)
    .update(encodeCanonicalJson(document))
    .digest("hex") as Sha256; // 64 hexadecimal digits by construction.
}
