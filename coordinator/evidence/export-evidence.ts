// Writes the evidence of one version as a stream: what an auditor needs, with no network and no trust in whoever
// hands it over.

import { createHash } from "node:crypto";
import type { ModelVersionId, Sha256, StudyId } from "@consilium/shared/base/brand.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import type { AuditLog } from "../audit/audit-log.ts";
import { parseLeaf } from "../audit/leaf.ts";
import type { LogStore } from "../persistence/ports.ts";
import type { ArtifactStore } from "../versions/artifact-store.ts";
import {
  type BundleIndex,
  blobFile,
  bundleType,
  checkpointFile,
  fileOf,
  indexBytes,
  indexFile,
  logBytes,
  logFile,
  requiredBlobs,
} from "./bundle.ts";
import { tarEnd, tarHeader, tarPadding } from "./tar.ts";

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
  const { state, checkpoint, size } = log;
  const leaves = await readLeaves(store, size);
  const version = state.studies.get(wanted.study)?.versions.get(wanted.version);
  const blobs = requiredBlobs(leaves.map(parseLeaf), state, wanted);
  if (!version || version.round === 0 || !blobs) throw new ProtocolError("evidence.unavailable");
  const [logPart, checkpointPart] = [logBytes(leaves), new TextEncoder().encode(checkpoint)];
  const present = blobs.present.filter((blob) => artifacts.size(blob) !== null);
  const index: BundleIndex = {
    type: bundleType,
    origin: log.origin,
    ...wanted,
    logSize: size,
    files: [
      fileOf(logFile, logPart),
      fileOf(checkpointFile, checkpointPart),
      ...present.map((sha256) => ({ name: blobFile(sha256), bytes: artifacts.size(sha256) ?? 0, sha256 })),
    ],
  };
  yield* wholeFile(indexFile, indexBytes(index));
  yield* wholeFile(logFile, logPart);
  yield* wholeFile(checkpointFile, checkpointPart);
  for (const sha256 of present) yield* blobPieces(artifacts, sha256);
  yield tarEnd;
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

function* wholeFile(name: string, bytes: Uint8Array): Generator<Uint8Array> {
  yield tarHeader(name, bytes.length);
  yield bytes;
  yield tarPadding(bytes.length);
}

/** @throws Error when a stored blob no longer has its digest: the export is cut rather than completed */
function* blobPieces(artifacts: ArtifactStore, sha256: Sha256): Generator<Uint8Array> {
  const reader = artifacts.open(sha256);
  const hash = createHash("sha256");
  try {
    yield tarHeader(blobFile(sha256), reader.bytes);
    for (let at = 0; at < reader.bytes; at += pieceBytes) {
      const piece = new Uint8Array(Math.min(pieceBytes, reader.bytes - at));
      reader.readInto(at, piece);
      hash.update(piece);
      yield piece;
    }
    yield tarPadding(reader.bytes);
  } finally {
    reader.close();
  }
  if (hash.digest("hex") !== sha256) throw new Error(`stored blob ${sha256} does not have its digest`);
}
