// What an evidence bundle is: a tar archive whose files follow from the log inside it. `index.json` names the version
// and lists every other file with size and SHA-256; `log.jsonl` holds every leaf up to the checkpoint; `blobs/` holds
// the tensors of the version's lineage under their SHA-256.

import type { ModelVersionId, Sha256, StudyId } from "@consilium/shared/base/brand.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import { encodeCanonicalJson } from "@consilium/shared/encoding/canonical-json.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import { Count, Digest, Origin, StudyName, VersionId } from "@consilium/shared/protocol/names.ts";
import type { LogEntry } from "@consilium/shared/protocol/records.ts";
import type { VersionState } from "@consilium/shared/protocol/study-state.ts";
import { type Static, Type } from "typebox";

const strict = { additionalProperties: false } as const;

export const bundleType = "consilium-evidence/v1";

export const BundleIndex = Type.Object(
  {
    type: Type.Literal(bundleType),
    origin: Origin,
    study: StudyName,
    version: VersionId,
    logSize: Count,
    files: Type.Array(
      Type.Object(
        { name: Type.String({ pattern: "^[a-z0-9./-]{1,100}$" }), bytes: Count, sha256: Digest },
        strict,
      ),
    ),
  },
  strict,
);
export type BundleIndex = Static<typeof BundleIndex>;

export const indexFile = "index.json";
export const logFile = "log.jsonl";
export const checkpointFile = "checkpoint.txt";
export const blobFile = (sha256: Sha256): string => `blobs/${sha256}`;

export function indexBytes(index: BundleIndex): Uint8Array {
  return encodeCanonicalJson(index);
}

/** One leaf a line; a leaf is canonical JSON, so it holds no line feed. */
export function logBytes(leaves: readonly string[]): Uint8Array {
  return new TextEncoder().encode(leaves.map((leaf) => `${leaf}\n`).join(""));
}

export function fileOf(name: string, bytes: Uint8Array): BundleIndex["files"][number] {
  return { name, bytes: bytes.length, sha256: blobDigest(bytes) };
}

/** The blobs that a version's lineage rests on, in the order of their digests, and which of them retention deleted. */
export type RequiredBlobs = { readonly present: readonly Sha256[]; readonly deleted: readonly Sha256[] };

/**
 * From the log alone: the weights of every version from the start to this one, and every update in between.
 * @returns null when the log holds no such version
 */
export function requiredBlobs(
  entries: readonly LogEntry[],
  state: FederationState,
  wanted: { study: StudyId; version: ModelVersionId },
): RequiredBlobs | null {
  const study = state.studies.get(wanted.study);
  const needed = new Set<Sha256>();
  const rounds = new Set<number>();
  for (let at: ModelVersionId | null = wanted.version; at !== null; ) {
    const one: VersionState | undefined = study?.versions.get(at);
    if (!study || !one) return null;
    needed.add(one.weights.sha256);
    rounds.add(one.round);
    at = one.parent;
  }
  for (const { record } of entries) {
    if (record.kind !== "round.closed" || record.study !== wanted.study || !rounds.has(record.round))
      continue;
    for (const { delta } of record.accepted) needed.add(delta);
  }
  const sorted = [...needed].sort();
  const isDeleted = (blob: Sha256): boolean => study?.deletedBlobs.has(blob) ?? false;
  return { present: sorted.filter((blob) => !isDeleted(blob)), deleted: sorted.filter(isDeleted) };
}
