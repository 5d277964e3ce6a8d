// The offline verifier: given a bundle and the keys that the auditor trusts, is everything in it what it claims to be?
// No network, no database, no clock. It names the first thing that is wrong and everything that it could not check.

import { type ModelVersionId, type PublicKey, type Sha256, sha256 } from "@consilium/shared/base/brand.ts";
import { openCheckpoint } from "@consilium/shared/crypto/checkpoint.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import { equalBytes, leafHash, MerkleTree } from "@consilium/shared/crypto/merkle.ts";
import { decodeCanonicalJson } from "@consilium/shared/encoding/canonical-json.ts";
import {
  evolveFederation,
  type FederationState,
  initialFederationState,
} from "@consilium/shared/protocol/federation.ts";
import type { LogEntry } from "@consilium/shared/protocol/records.ts";
import type { VersionState } from "@consilium/shared/protocol/study-state.ts";
import { Value } from "typebox/value";
import { parseLeaf } from "../audit/leaf.ts";
import {
  BundleIndex,
  blobFile,
  checkpointFile,
  fileOf,
  indexBytes,
  indexFile,
  logBytes,
  logFile,
  requiredBlobs,
} from "./bundle.ts";
import { RecordChecker } from "./check-records.ts";
import { recomputeLineage } from "./recompute.ts";
import { readTar, type TarEntry } from "./tar.ts";

export type Verdict = {
  /** verified: nothing is wrong. not-recomputable: nothing is wrong, but tensors were deleted under the retention rule. */
  readonly verdict: "verified" | "not-recomputable" | "failed";
  /** Everything that is wrong, each in one sentence. */
  readonly faults: readonly string[];
  /** What was checked, for people. */
  readonly facts: readonly string[];
};

export type Trust = {
  /** Keys of coordinators that the auditor trusts. */
  readonly keys: readonly PublicKey[];
  /** A checkpoint that a witness has kept, from another source than the bundle. */
  readonly witness: string | null;
};

class Fault extends Error {}

export async function verifyEvidence(archive: Uint8Array, trust: Trust): Promise<Verdict> {
  const facts: string[] = [];
  try {
    const files = new Map(
      readTar(archive).map((entry, at, all) => [uniqueName(entry, at, all), entry.bytes]),
    );
    const index = readIndex(files, archive);
    const { key, tree, entries } = readLog(files, index, trust);
    facts.push(`log: ${entries.length} entries, signed by ${key}`);
    if (trust.witness) facts.push(checkWitness(trust.witness, { index, key, tree }));
    const { state, checker } = checkEntries(entries, index.origin, key);
    const blobs = checkBlobs(files, index, { entries, state });
    facts.push(...describe(state, index));
    if (blobs.deleted.length > 0) {
      facts.push(
        `${blobs.deleted.length} blobs were deleted under the retention rule: the aggregate cannot be recomputed`,
      );
      return { verdict: "not-recomputable", faults: [], facts };
    }
    facts.push(
      ...(await recomputeLineage({ index, state, checker, read: (blob) => files.get(blobFile(blob)) })),
    );
    return { verdict: "verified", faults: [], facts };
  } catch (error) {
    const known = error instanceof Error ? error.message : "unknown fault";
    return { verdict: "failed", faults: known.split("\n"), facts };
  }
}

function uniqueName({ name }: TarEntry, at: number, all: readonly TarEntry[]): string {
  if (all.findIndex((other) => other.name === name) !== at) throw new Fault(`${name} is in the bundle twice`);
  return name;
}

/** The index must be the one that follows from the other files, in their order, byte for byte. */
function readIndex(files: ReadonlyMap<string, Uint8Array>, archive: Uint8Array): BundleIndex {
  const bytes = files.get(indexFile);
  if (!bytes) throw new Fault(`${indexFile} is missing`);
  const index = decodeCanonicalJson(bytes);
  if (!Value.Check(BundleIndex, index))
    throw new Fault(`${indexFile} is not the index of an evidence bundle`);
  const listed = new Map(index.files.map((file) => [file.name, file]));
  const faults = [
    ...[...files.keys()]
      .filter((name) => name !== indexFile && !listed.has(name))
      .map((name) => `extra file ${name}`),
    ...index.files.filter(({ name }) => !files.has(name)).map(({ name }) => `missing file ${name}`),
  ];
  for (const [name, content] of files) {
    const file = listed.get(name);
    if (file && blobDigest(content) !== file.sha256) faults.push(`${name} does not have its SHA-256`);
  }
  if (faults.length > 0) throw new Fault(faults.join("\n"));
  const again = [...files]
    .filter(([name]) => name !== indexFile)
    .map(([name, content]) => fileOf(name, content));
  const order = [indexFile, ...index.files.map(({ name }) => name)].join() === [...files.keys()].join();
  if (!order || !equalBytes(indexBytes({ ...index, files: again }), bytes))
    throw new Fault(`${indexFile} does not describe these files in this order`);
  if (archive.length === 0) throw new Fault("the bundle is empty");
  return index;
}

type SignedLog = {
  readonly key: PublicKey;
  readonly tree: MerkleTree;
  readonly entries: readonly LogEntry[];
};

function readLog(files: ReadonlyMap<string, Uint8Array>, index: BundleIndex, { keys }: Trust): SignedLog {
  const [log, note] = [files.get(logFile), files.get(checkpointFile)];
  if (!log || !note) throw new Fault(`${logFile} or ${checkpointFile} is missing`);
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const leaves = text.decode(log).split("\n").slice(0, -1);
  if (!equalBytes(logBytes(leaves), log)) throw new Fault(`${logFile} does not end with a line feed`);
  const tree = new MerkleTree();
  for (const leaf of leaves) tree.append(leafHash(new TextEncoder().encode(leaf)));
  const checkpoint = text.decode(note);
  const key = keys.find((candidate) => opens(checkpoint, index.origin, candidate));
  if (!key) throw new Fault("the checkpoint is not signed by any of the trusted keys");
  const head = openCheckpoint(checkpoint, index.origin, key);
  if (head.size !== tree.size || head.size !== index.logSize)
    throw new Fault(`the checkpoint was signed for ${head.size} entries, the log has ${tree.size}`);
  if (!equalBytes(head.root, tree.root()))
    throw new Fault(
      "the log is not the one that the checkpoint was signed for: an entry was altered, dropped, added or moved",
    );
  return { key, tree, entries: leaves.map(parseLeaf) };
}

function opens(note: string, origin: string, key: PublicKey): boolean {
  try {
    openCheckpoint(note, origin, key);
    return true;
  } catch {
    return false;
  }
}

function checkWitness(
  note: string,
  { index, key, tree }: { index: BundleIndex; key: PublicKey; tree: MerkleTree },
): string {
  let head: ReturnType<typeof openCheckpoint>;
  try {
    head = openCheckpoint(note, index.origin, key);
  } catch (cause) {
    throw new Fault(`the witness's checkpoint is not one of this log: ${(cause as Error).message}`);
  }
  if (head.size > tree.size)
    throw new Fault(
      `the bundle's log is older than the witness's: ${tree.size} entries, the witness has seen ${head.size}`,
    );
  if (!equalBytes(head.root, tree.root(head.size)))
    throw new Fault(
      `the bundle's log is a fork: its first ${head.size} entries are not those that the witness has seen`,
    );
  return `witness: the log continues the checkpoint of ${head.size} entries that the witness has kept`;
}

function checkEntries(
  entries: readonly LogEntry[],
  origin: string,
  key: PublicKey,
): { state: FederationState; checker: RecordChecker } {
  const checker = new RecordChecker(origin, key);
  let state = initialFederationState;
  for (const entry of entries) {
    const faults = checker.check(state, entry);
    if (faults.length > 0)
      throw new Fault(
        faults.map((fault) => `entry ${entry.index}, ${entry.record.kind}: ${fault}`).join("\n"),
      );
    state = evolveFederation(state, entry);
  }
  return { state, checker };
}

/** The bundle holds exactly the blobs that its own log calls for. */
function checkBlobs(
  files: ReadonlyMap<string, Uint8Array>,
  index: BundleIndex,
  { entries, state }: { entries: readonly LogEntry[]; state: FederationState },
): { deleted: readonly Sha256[] } {
  const required = requiredBlobs(entries, state, index);
  const version = state.studies.get(index.study)?.versions.get(index.version);
  if (!required || !version || version.round === 0)
    throw new Fault("the log knows no aggregated version of that name");
  const missing = required.present.filter((blob) => !files.has(blobFile(blob)));
  if (missing.length > 0)
    throw new Fault(
      missing
        .map((blob) => `blob ${blob} is missing and was not deleted under the retention rule`)
        .join("\n"),
    );
  const wanted = new Set([...required.present, ...required.deleted].map(blobFile));
  for (const [name, content] of files) {
    if (!name.startsWith("blobs/")) continue;
    if (!wanted.has(name)) throw new Fault(`extra blob ${name}`);
    if (blobDigest(content) !== sha256(name.slice("blobs/".length)))
      throw new Fault(`${name} does not have its digest`);
  }
  const known = [indexFile, logFile, checkpointFile];
  const extra = [...files.keys()].filter((name) => !known.includes(name) && !name.startsWith("blobs/"));
  if (extra.length > 0) throw new Fault(extra.map((name) => `extra file ${name}`).join("\n"));
  return { deleted: required.deleted.filter((blob) => !files.has(blobFile(blob))) };
}

function describe(state: FederationState, { study: id, version: wanted }: BundleIndex): string[] {
  const study = state.studies.get(id);
  const facts: string[] = [];
  for (let at: ModelVersionId | null = wanted; at !== null; ) {
    const one: VersionState | undefined = study?.versions.get(at);
    if (!one) break;
    const dice = one.meanDice === null ? "" : `, mean Dice ${one.meanDice.toFixed(4)}`;
    facts.unshift(
      one.round === 0
        ? `start version ${at.slice(0, 12)}`
        : `round ${one.round}: version ${at.slice(0, 12)} by ${one.contributors.join(", ")}${dice}, ${one.judged}`,
    );
    at = one.parent;
  }
  if (study?.versions.get(wanted)?.withdrawn)
    facts.push("this version is withdrawn: a site took its contribution back");
  return facts;
}
