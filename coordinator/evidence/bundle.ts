// What an evidence bundle is: an archive whose files follow from the log inside it. `index.json` names the version;
// `log.jsonl` holds every leaf up to the checkpoint; `checkpoint.txt` is the signed head; `blobs/` holds the version's
// weights and every update of its lineage under their SHA-256. Weights in between are recomputed, not carried.

import type { ModelVersionId, Sha256, StudyId } from "@consilium/shared/base/brand.ts";
import { encodeCanonicalJson } from "@consilium/shared/encoding/canonical-json.ts";
import type { ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import { Origin, StudyName, VersionId } from "@consilium/shared/protocol/names.ts";
import type { LogEntry } from "@consilium/shared/protocol/records.ts";
import type { VersionState } from "@consilium/shared/protocol/study-state.ts";
import { type Static, Type } from "typebox";

export const bundleType = "consilium-evidence/v1";

export const BundleIndex = Type.Object(
  { type: Type.Literal(bundleType), origin: Origin, study: StudyName, version: VersionId },
  { additionalProperties: false },
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

/** From the start version to this one; null when the study has no such version. */
export function lineageOf(
  state: FederationState,
  wanted: { study: StudyId; version: ModelVersionId },
): VersionState[] | null {
  const study = state.studies.get(wanted.study);
  const lineage: VersionState[] = [];
  for (let at: ModelVersionId | null = wanted.version; at !== null; ) {
    const one: VersionState | undefined = study?.versions.get(at);
    if (!one) return null;
    lineage.unshift(one);
    at = one.parent;
  }
  return lineage;
}

/** A log that was read to its end, with the manifest of every version in it. */
export type ReadLog = {
  readonly entries: readonly LogEntry[];
  readonly state: FederationState;
  readonly manifestOf: (version: ModelVersionId) => ModelVersionManifest;
};

/** Blobs that a bundle of this version must hold, in the order of their digests, and those that retention deleted. */
export type RequiredBlobs = { readonly present: readonly Sha256[]; readonly deleted: readonly Sha256[] };

/**
 * From the log alone.
 * @returns null unless an aggregation made the version
 */
export function requiredBlobs(
  { entries, state, manifestOf }: ReadLog,
  wanted: { study: StudyId; version: ModelVersionId },
): RequiredBlobs | null {
  const lineage = lineageOf(state, wanted);
  const [start, last] = [lineage?.[0], lineage?.at(-1)];
  if (!lineage || !start || !last || last.round === 0) return null;
  const needed = new Set<Sha256>([last.weights.sha256]);
  // A start model that was drawn from a seed is drawn again; an imported one has to be carried.
  if (manifestOf(start.version).from.kind !== "seeded") needed.add(start.weights.sha256);
  const rounds = new Set(lineage.map(({ round }) => round));
  for (const { record } of entries) {
    if (record.kind !== "round.closed" || record.study !== wanted.study || !rounds.has(record.round))
      continue;
    for (const { delta } of record.accepted) needed.add(delta);
  }
  const sorted = [...needed].sort();
  const deletedBlobs = state.studies.get(wanted.study)?.deletedBlobs;
  const isDeleted = (blob: Sha256): boolean => deletedBlobs?.has(blob) ?? false;
  return { present: sorted.filter((blob) => !isDeleted(blob)), deleted: sorted.filter(isDeleted) };
}
