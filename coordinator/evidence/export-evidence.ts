// Writes the evidence of one version as a stream: what an auditor needs, with no network and no trust in whoever
// hands it over.

import { createHash } from "node:crypto";
import type { ModelVersionId, Sha256, StudyId } from "@consilium/shared/base/brand.ts";
import type { ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import type { AuditLog } from "../audit/audit-log.ts";
import { parseLeaf } from "../audit/leaf.ts";
import type { LogStore } from "../persistence/ports.ts";
import type { ArtifactStore } from "../versions/artifact-store.ts";
import { recordedManifests } from "../versions/recorded-version.ts";
import {
  type BundleIndex,
  blobFile,
  bundleType,
  checkpointFile,
  indexBytes,
  indexFile,
  logBytes,
  logFile,
  requiredBlobs,
} from "./bundle.ts";
import { archiveEnd, entryHeader, entryPadding } from "./cpio.ts";

const pageEntries = 1000;
const pieceBytes = 1 << 20;

export type EvidencePorts = {
  readonly log: AuditLog;
  readonly store: LogStore;
  readonly artifacts: ArtifactStore;
};

/** @throws ProtocolError evidence.unavailable when no aggregation made this version */
export async function* exportEvidence(
  { log, store, artifacts }: EvidencePorts,
  wanted: { study: StudyId; version: ModelVersionId },
): AsyncGenerator<Uint8Array> {
  const { state, checkpoint, size, origin } = log;
  const leaves = await readLeaves(store, size);
  const entries = leaves.map(parseLeaf);
  const blobs = requiredBlobs(
    { entries, state, manifestOf: (version) => manifestIn(state, version) },
    wanted,
  );
  if (!blobs) throw new ProtocolError("evidence.unavailable");
  const index: BundleIndex = { type: bundleType, origin, study: wanted.study, version: wanted.version };
  const documents = [
    { name: indexFile, bytes: indexBytes(index) },
    { name: logFile, bytes: logBytes(leaves) },
    { name: checkpointFile, bytes: new TextEncoder().encode(checkpoint) },
  ];
  for (const [at, { name, bytes }] of documents.entries()) {
    yield entryHeader(name, { size: bytes.length, index: at });
    yield bytes;
    yield entryPadding(bytes.length);
  }
  const present = blobs.present.filter((blob) => artifacts.size(blob) !== null);
  for (const [at, sha256] of present.entries()) yield* blobPieces(artifacts, sha256, documents.length + at);
  yield archiveEnd;
}

function manifestIn(state: FederationState, version: ModelVersionId): ModelVersionManifest {
  const manifest = recordedManifests(state)(version);
  if (!manifest) throw new ProtocolError("version.unknown");
  return manifest;
}

async function readLeaves(store: LogStore, size: number): Promise<string[]> {
  const leaves: string[] = [];
  while (leaves.length < size) {
    const page = await store.read(leaves.length, Math.min(pageEntries, size - leaves.length));
    if (page.length === 0) break;
    leaves.push(...page.map(({ leaf }) => leaf));
  }
  return leaves;
}

/** @throws Error when a stored blob no longer has its digest: the export is cut rather than completed */
function* blobPieces(artifacts: ArtifactStore, sha256: Sha256, index: number): Generator<Uint8Array> {
  const reader = artifacts.open(sha256);
  const hash = createHash("sha256");
  try {
    yield entryHeader(blobFile(sha256), { size: reader.bytes, index });
    for (let at = 0; at < reader.bytes; at += pieceBytes) {
      const piece = new Uint8Array(Math.min(pieceBytes, reader.bytes - at));
      reader.readInto(at, piece);
      hash.update(piece);
      yield piece;
    }
    yield entryPadding(reader.bytes);
  } finally {
    reader.close();
  }
  if (hash.digest("hex") !== sha256) throw new Error(`stored blob ${sha256} does not have its digest`);
}
