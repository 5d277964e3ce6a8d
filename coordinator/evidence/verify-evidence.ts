// The offline verifier: given a bundle and the keys that the auditor trusts, is everything in it what it claims to be?
// No network, no database, no clock. It names the first thing that is wrong and everything that it could not check.

import type { ModelVersionId, PublicKey, Sha256 } from "@consilium/shared/base/brand.ts";
import { openCheckpoint } from "@consilium/shared/crypto/checkpoint.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import { equalBytes, leafHash, MerkleTree } from "@consilium/shared/crypto/merkle.ts";
import { decodeCanonicalJson } from "@consilium/shared/encoding/canonical-json.ts";
import type { ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import {
  evolveFederation,
  type FederationState,
  initialFederationState,
} from "@consilium/shared/protocol/federation.ts";
import type { LogEntry } from "@consilium/shared/protocol/records.ts";
import { Value } from "typebox/value";
import { parseLeaf } from "../audit/leaf.ts";
import {
  BundleIndex,
  blobFile,
  checkpointFile,
  indexFile,
  lineageOf,
  logBytes,
  logFile,
  type ReadLog,
  requiredBlobs,
} from "./bundle.ts";
import { RecordChecker } from "./check-records.ts";
import { type ArchiveEntry, readArchive } from "./cpio.ts";
import { partFacts } from "./describe-parts.ts";
import { checkCarriedParts, recomputeLineage } from "./recompute.ts";

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
    const listed = readArchive(archive);
    const files = new Map(listed.map(({ name, bytes }) => [name, bytes]));
    const index = readIndex(files);
    const { key, tree, entries } = readLog(files, index, trust);
    facts.push(`log: ${entries.length} entries, signed by ${key}`);
    if (trust.witness) facts.push(checkWitness(trust.witness, { index, key, tree }));
    const { state, checker } = checkEntries(entries, index.origin, key);
    const log = { entries, state, manifestOf: (version: ModelVersionId) => manifestOf(checker, version) };
    const { deleted } = checkFiles(listed, index, log);
    facts.push(...describe(state, index), ...partFacts(log.manifestOf, index.version, state));
    const read = (blob: Sha256): Uint8Array | undefined => files.get(blobFile(blob));
    if (deleted.length > 0) {
      await checkCarriedParts({ index, state, checker, read });
      facts.push(
        `${deleted.length} blobs were deleted under the retention rule: the aggregate cannot be recomputed`,
      );
      return { verdict: "not-recomputable", faults: [], facts };
    }
    facts.push(...(await recomputeLineage({ index, state, checker, read })));
    return { verdict: "verified", faults: [], facts };
  } catch (error) {
    const known = error instanceof Error ? error.message : "unknown fault";
    return { verdict: "failed", faults: known.split("\n"), facts };
  }
}

/** Its bytes are the one canonical form, and all that it says is compared with the log. */
function readIndex(files: ReadonlyMap<string, Uint8Array>): BundleIndex {
  const bytes = files.get(indexFile);
  if (!bytes) throw new Fault(`${indexFile} is missing`);
  const index = decodeCanonicalJson(bytes);
  if (!Value.Check(BundleIndex, index))
    throw new Fault(`${indexFile} is not the index of an evidence bundle`);
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
  if (head.size !== tree.size)
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

function manifestOf(checker: RecordChecker, version: ModelVersionId): ModelVersionManifest {
  const manifest = checker.manifests.get(version);
  if (!manifest) throw new Fault(`version ${version} has no manifest`);
  return manifest;
}

/** The bundle holds exactly the files that its own log calls for, each once, in one order, with the right content. */
function checkFiles(
  listed: readonly ArchiveEntry[],
  index: BundleIndex,
  log: ReadLog,
): { deleted: readonly Sha256[] } {
  const required = requiredBlobs(log, index);
  if (!required) throw new Fault("the log knows no aggregated version of that name");
  const names = listed.map(({ name }) => name);
  const deleted = required.deleted.filter((blob) => !names.includes(blobFile(blob)));
  const blobs = [...required.present, ...required.deleted].filter((blob) => !deleted.includes(blob)).sort();
  const expected = [indexFile, logFile, checkpointFile, ...blobs.map(blobFile)];
  const faults = [
    ...expected
      .filter((name) => !names.includes(name))
      .map(
        (name) =>
          `${name} is missing${name.startsWith("blobs/") ? " and was not deleted under the retention rule" : ""}`,
      ),
    ...names.filter((name) => !expected.includes(name)).map((name) => `extra file ${name}`),
    ...names.filter((name, at) => names.indexOf(name) !== at).map((name) => `${name} is in the bundle twice`),
  ];
  for (const { name, bytes } of listed) {
    if (name.startsWith("blobs/") && blobFile(blobDigest(bytes)) !== name)
      faults.push(`${name} does not have its digest`);
  }
  if (faults.length === 0 && names.join() !== expected.join())
    faults.push("the files are not in the order of a bundle");
  if (faults.length > 0) throw new Fault(faults.join("\n"));
  return { deleted };
}

function describe(state: FederationState, index: BundleIndex): string[] {
  const lineage = lineageOf(state, index) ?? [];
  const facts = lineage.map(({ version, round, contributors, meanDice, judged }) => {
    const dice = meanDice === null ? "" : `, mean Dice ${meanDice.toFixed(4)}`;
    const name = version.slice(0, 12);
    return round === 0
      ? `start version ${name}`
      : `round ${round}: version ${name} by ${contributors.join(", ")}${dice}, ${judged}`;
  });
  const isWithdrawn = lineage.at(-1)?.withdrawn ?? false;
  return isWithdrawn ? [...facts, "this version is withdrawn: a site took its contribution back"] : facts;
}
