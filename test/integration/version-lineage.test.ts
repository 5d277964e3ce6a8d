// Two phases of RFMedSAM 2: the prompter is federated and released, then the adapters with that prompter frozen. The
// evidence of the second names the first, and a frozen part that was altered is caught, by a forger with every key.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseLeaf, toStored } from "@consilium/coordinator/audit/leaf.ts";
import { listVersions, showVersion } from "@consilium/coordinator/commands/model-commands.ts";
import { OperatorClient } from "@consilium/coordinator/commands/operator-client.ts";
import { chosenStart } from "@consilium/coordinator/commands/start-choice.ts";
import { openStudy } from "@consilium/coordinator/commands/study-commands.ts";
import { type ArchiveEntry, readArchive, writeArchive } from "@consilium/coordinator/evidence/cpio.ts";
import { type Verdict, verifyEvidence } from "@consilium/coordinator/evidence/verify-evidence.ts";
import { readOrMakeSigningKey } from "@consilium/coordinator/key-files.ts";
import { versionId } from "@consilium/coordinator/versions/derive.ts";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { signCheckpoint } from "@consilium/shared/crypto/checkpoint.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import { openEnvelope, seal } from "@consilium/shared/crypto/envelope.ts";
import type { SigningKey } from "@consilium/shared/crypto/keys.ts";
import { MerkleTree } from "@consilium/shared/crypto/merkle.ts";
import { readTensorBundle, writeTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";
import type { Rfmedsam2Config } from "@consilium/shared/model/rfmedsam2.ts";
import { rfmedsam2Trainable } from "@consilium/shared/model/rfmedsam2-parameters.ts";
import { ModelVersionDocument, type ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import type { LogEntry } from "@consilium/shared/protocol/records.ts";
import { provenanceFile } from "@consilium/shared/protocol/version-parts.ts";
import t, { type Test } from "tap";
import {
  openSmallStudy,
  smallDelta,
  startFederation,
  statementFor,
  submitEvaluation,
  type TestFederation,
} from "../support/federation.ts";
import type { PlainSite } from "../support/plain-site.ts";
import { smallRfmedsam2 } from "../support/small-rfmedsam2.ts";
import { smallPlan } from "../support/small-study.ts";

type Trains = "prompter" | "adapters";
type Trained = Pick<Rfmedsam2Config, "maskDecoder"> & { readonly trains: Trains };
type Phase = Trained & { readonly study: string; readonly start: Record<string, unknown> };

const rounds = { count: 1, quorum: 2, recruitmentMs: 60_000, trainingMs: 60_000, evaluationMs: 60_000 };
const changesOf = (trained: Trained): Record<string, unknown> => ({
  recipe: { id: "rfmedsam2", version: 1, config: smallRfmedsam2(trained, 2) },
  rounds: { ...rounds, abandonedInARowMax: 3 },
});

/** One round of a study with an update from each site; @returns its version */
async function runPhase(
  federation: TestFederation,
  sites: readonly PlainSite[],
  { study, start, ...trained }: Phase,
): Promise<string> {
  await openSmallStudy(federation, sites, { study, changes: changesOf(trained), start });
  const manifest = rfmedsam2Trainable(smallRfmedsam2(trained, 2));
  for (const [at, site] of sites.entries()) {
    const offer = await site.expect("round.offer", (message) => message.study === study);
    const delta = await site.upload(smallDelta(0.001 * (at + 1), manifest));
    const envelope = site.seal("update", statementFor(site, offer, delta));
    await site.send({ kind: "update.submit", envelope });
  }
  let version = "";
  for (const site of sites) version = await submitEvaluation(site, 0.5);
  for (const site of sites) await site.expect("study.finished", (message) => message.study === study);
  return version;
}

async function twoPhases(t: Test) {
  const federation = await startFederation();
  t.teardown(() => federation.close());
  const sites = [await federation.enrol("hospital-a"), await federation.enrol("hospital-b")];
  const seeded = { kind: "seeded", seed: 1 };
  const first = await runPhase(federation, sites, { study: "phase-1", trains: "prompter", start: seeded });
  const client = new OperatorClient({ data: federation.folder });
  const parts = ["prompter=phase-1", "sam2=phase-1", "adapters=seed:4"];
  await t.rejects(chosenStart({ part: parts }, client), /no version of phase-1 is in use/);
  const body = { version: first, reason: "phase 1 is over" };
  t.equal((await federation.operator("POST", "/v1/studies/phase-1/release", body)).status, 200);
  const start = await chosenStart({ part: parts }, client);
  const second = await runPhase(federation, sites, { study: "phase-2", trains: "adapters", start });
  const key = readOrMakeSigningKey(join(federation.folder, "coordinator.key.pem"));
  return { federation, sites, client, first, second, key };
}

async function download(federation: TestFederation, version: string): Promise<Uint8Array> {
  const response = await fetch(`${federation.url}/v1/versions/${version}/evidence`, {
    headers: { authorization: `Bearer ${federation.operatorToken}` },
  });
  if (!response.ok) throw new Error(await response.text());
  return new Uint8Array(await response.arrayBuffer());
}

const verdictOf = (bundle: Uint8Array, key: SigningKey): Promise<Verdict> =>
  verifyEvidence(bundle, { keys: [key.publicKey], witness: null });

/** What a coordinator could write that has all its keys: the last version another, and the log signed anew. */
function forged(
  bundle: Uint8Array,
  key: SigningKey,
  change: (manifest: ModelVersionManifest, weights: Uint8Array) => Forgery,
): Uint8Array {
  const files = readArchive(bundle);
  const text = (name: string): string =>
    new TextDecoder().decode(files.find((file) => file.name === name)?.bytes);
  const leaves = text("log.jsonl").trimEnd().split("\n").map(parseLeaf);
  const at = leaves.findLastIndex(({ record }) => record.kind === "version.created");
  const { atMs, record } = expectDefined(leaves[at], "a version");
  if (record.kind !== "version.created") throw new Error("found by its kind");
  const manifest = openEnvelope(ModelVersionDocument, record.envelope, key.publicKey);
  const blob = expectDefined(
    files.find(({ name }) => name === `blobs/${record.weights.sha256}`),
    "weights",
  );
  const { weights, parts } = change(manifest, blob.bytes);
  const made = { ...manifest, weights: { sha256: blobDigest(weights), bytes: weights.length }, parts };
  const version = versionId(made);
  const entry: LogEntry = {
    ...{ index: at, atMs },
    record: { ...record, version, weights: made.weights, envelope: seal(ModelVersionDocument, made, key) },
  };
  const stored = [...leaves.slice(0, at), entry].map(toStored);
  const tree = new MerkleTree();
  for (const { leafHash } of stored) tree.append(leafHash);
  const index = JSON.parse(text("index.json"));
  const head = { origin: index.origin, size: stored.length, root: tree.root() };
  const log = stored.map(({ leaf }) => `${leaf}\n`).join("");
  const others = files.filter(({ name }) => name.startsWith("blobs/") && name !== blob.name);
  const blobs = [...others, { name: `blobs/${made.weights.sha256}`, bytes: weights }];
  const encoded = (name: string, value: string): ArchiveEntry => ({
    ...{ name, bytes: new TextEncoder().encode(value) },
  });
  return writeArchive([
    encoded("index.json", text("index.json").replace(index.version, version)),
    encoded("log.jsonl", log),
    encoded("checkpoint.txt", signCheckpoint(head, key)),
    ...blobs.sort((one, two) => (one.name < two.name ? -1 : 1)),
  ]);
}

type Forgery = { readonly weights: Uint8Array; readonly parts: NonNullable<ModelVersionManifest["parts"]> };

/** One byte of the frozen prompter is another. */
function withOtherPrompter(weights: Uint8Array): Uint8Array {
  const tensors = [...readTensorBundle(weights).tensors.values()];
  return writeTensorBundle(
    tensors.map((tensor, at) => {
      if (at > 0) return tensor;
      const bytes = Uint8Array.from(tensor.bytes);
      bytes[0] = (bytes[0] ?? 0) ^ 1;
      return { ...tensor, bytes };
    }),
  );
}

t.test("the adapters of phase 2 are federated over the released prompter of phase 1", async (t) => {
  const { federation, client, first, second, key } = await twoPhases(t);
  const bundle = await download(federation, second);
  const verdict = await verdictOf(bundle, key);
  t.match(verdict, { verdict: "verified", faults: [] });
  const fact = (part: string): string => verdict.facts.find((one) => one.startsWith(`${part} `)) ?? "";
  t.match(
    fact("prompter"),
    `drawn from seed 1; then trained in phase-1: round 1 (version ${first.slice(0, 12)}); then taken from version ${first} of study phase-1`,
  );
  t.match(fact("sam2"), `: drawn from seed 1; then taken from version ${first} of study phase-1`);
  t.match(
    fact("adapters"),
    `drawn from seed 4; then trained in phase-2: round 1 (version ${second.slice(0, 12)})`,
  );

  const { body } = await federation.operator("GET", "/v1/studies/phase-2/versions");
  const [start, made] = body["versions"] as { parts: { sha256: string }[] }[]; // VersionsAnswer.
  t.strictSame(made?.parts.slice(0, 2), start?.parts.slice(0, 2), "frozen parts are as they were");
  t.not(made?.parts[2]?.sha256, start?.parts[2]?.sha256, "the adapters are not");
  t.match((await federation.operator("POST", "/v1/audit/verification", {})).body, { ok: true, faults: [] });

  const printed: string[] = [];
  const context = { client: () => client, print: (line: string) => printed.push(line), json: false };
  await showVersion(second, context);
  t.match(printed.at(-1), new RegExp(`prompter  [0-9a-f]{64}: taken from version ${first} of study phase-1`));
  await listVersions("phase-2", context);
  t.match(printed.at(-1), /contributors +prompter +sam2 +adapters/);

  const replaced = readArchive(bundle).map(({ name, bytes }) =>
    name === `blobs/${weightsIn(bundle, key)}` ? { name, bytes: withOtherPrompter(bytes) } : { name, bytes },
  );
  t.match(await verdictOf(writeArchive(replaced), key), {
    verdict: "failed",
    faults: [/not have its digest/],
  });
  const honest = forged(bundle, key, ({ parts = [] }, weights) => ({ weights, parts }));
  t.match(await verdictOf(honest, key), { verdict: "verified" }, "nothing else is wrong with a forgery");
  const silent = forged(bundle, key, ({ parts = [] }, weights) => ({
    ...{ weights: withOtherPrompter(weights), parts },
  }));
  t.match(await verdictOf(silent, key), { verdict: "failed", faults: [/not the aggregate of its updates/] });
  const open = forged(bundle, key, ({ parts = [] }, weights) => ({
    weights: withOtherPrompter(weights),
    parts: parts.map((one) => (one.part === "prompter" ? { ...one, sha256: blobDigest(weights) } : one)),
  }));
  t.match(await verdictOf(open, key), { verdict: "failed", faults: [/prompter: frozen under the plan/] });
  const misnamed = forged(bundle, key, ({ parts = [] }, weights) => ({
    weights,
    parts: parts.map((one) => (one.part === "adapters" ? { ...one, sha256: blobDigest(weights) } : one)),
  }));
  t.match(await verdictOf(misnamed, key), {
    verdict: "failed",
    faults: [/adapters of the version of round 1 is not the one that its manifest names/],
  });
});

t.test("a mask decoder in training makes another SAM 2 in every round", async (t) => {
  const federation = await startFederation();
  t.teardown(() => federation.close());
  const sites = [await federation.enrol("hospital-a"), await federation.enrol("hospital-b")];
  const maskDecoder = { learningRateShare: 0.2 };
  const start = { kind: "seeded", seed: 1 };
  const phase: Phase = { study: "phase-2", trains: "adapters", maskDecoder, start };
  const version = await runPhase(federation, sites, phase);
  const key = readOrMakeSigningKey(join(federation.folder, "coordinator.key.pem"));
  const verdict = await verdictOf(await download(federation, version), key);
  t.match(verdict, { verdict: "verified", faults: [] });
  const fact = (part: string): string => verdict.facts.find((one) => one.startsWith(`${part} `)) ?? "";
  t.match(fact("prompter"), /: drawn from seed 1$/);
  for (const part of ["sam2", "adapters"])
    t.match(
      fact(part),
      `drawn from seed 1; then trained in phase-2: round 1 (version ${version.slice(0, 12)})`,
    );
  const { body } = await federation.operator("GET", "/v1/studies/phase-2/versions");
  const [first, made] = body["versions"] as { parts: { sha256: string }[] }[]; // VersionsAnswer.
  t.strictSame(
    made?.parts.map(({ sha256 }, at) => sha256 === first?.parts[at]?.sha256),
    [true, false, false],
  );
});

function weightsIn(bundle: Uint8Array, key: SigningKey): string {
  let found = "";
  forged(bundle, key, ({ weights: { sha256 }, parts = [] }, weights) => {
    found = sha256;
    return { weights, parts };
  });
  return found;
}

t.test("a file goes up with its provenance, and what does not hold is refused", async (t) => {
  const { federation, sites, client, first } = await twoPhases(t);
  const { body } = await federation.operator("GET", "/v1/studies/phase-1/versions");
  const made = (body["versions"] as ReleasedVersion[]).find(({ version }) => version === first); // VersionsAnswer.
  const { weights, parts } = expectDefined(made, "the version");
  const file = join(federation.folder, "start.safetensors");
  writeFileSync(file, expectDefined(await sites[0]?.blob(weights.sha256), "the weights"));
  const origin = { kind: "version", log: federation.origin, study: "phase-1", version: first };
  const stated = (sam2: unknown) => ({
    ...{ type: "consilium-provenance/v1", claimedBy: "Dr. Example", weights },
    parts: parts.map(({ part, sha256 }) => ({ part, sha256, origin: part === "sam2" ? sam2 : origin })),
  });
  const names = sites.map(({ name }) => name);
  const open = async (study: string, provenance: unknown): Promise<void> => {
    const plan = join(federation.folder, `${study}.json`);
    writeFileSync(plan, JSON.stringify(smallPlan(study, names, changesOf({ trains: "adapters" }))));
    writeFileSync(provenanceFile(file), JSON.stringify(provenance));
    await openStudy(plan, { start: file }, { client: () => client, print: () => {}, json: false });
  };
  await t.rejects(open("phase-3", stated({ kind: "seeded", seed: 9 })), {
    code: "provenance.refused",
    message: /sam2: seed 9 draws another/,
  });
  await t.rejects(open("phase-3", { by: "nobody" }), /is not a provenance/);
  await open("phase-3", stated({ kind: "checkpoint", sha256: "c".repeat(64), name: null }));
  const answer = await federation.operator("GET", "/v1/studies/phase-3/versions");
  t.match(answer.body["versions"], [
    {
      parts: [
        { part: "prompter", origin: { kind: "version", study: "phase-1", version: first } },
        { part: "sam2", origin: { kind: "checkpoint", name: null, claimedBy: "Dr. Example" } },
        { part: "adapters", origin: { kind: "version" } },
      ],
    },
  ]);
  await t.rejects(chosenStart({ seed: 1, start: file }, client), /one of --seed, --start and --part/);
  await t.rejects(chosenStart({ part: ["head=phase-1"] }, client), /names prompter, sam2 or adapters/);
});

t.test(
  "a contribution to phase 1 that is taken back is seen in phase 2, and marks nothing there",
  async (t) => {
    const { federation, second, key } = await twoPhases(t);
    const withdrawal = { site: "hospital-a", reason: "asked for" };
    const { body } = await federation.operator("POST", "/v1/studies/phase-1/withdrawals", withdrawal);
    t.match(body, { studies: ["phase-2"] });
    const verdict = await verdictOf(await download(federation, second), key);
    t.match(verdict, { verdict: "verified" });
    const noted = verdict.facts.filter((fact) => fact.includes("WITHDRAWN since"));
    t.match(noted, [/^prompter /], "not the base, which no site has touched");
    const plan = smallPlan("phase-3", ["hospital-a", "hospital-b"], changesOf({ trains: "adapters" }));
    const parts = ["prompter", "sam2", "adapters"].map((part) => ({
      ...{ part, from: { kind: "version", version: second } },
    }));
    const start = { kind: "composed", parts };
    const opened = await federation.operator("POST", "/v1/studies", { plan, start });
    t.match(opened, { status: 409, body: { code: "version.wrong-state" } });
  },
);

type ReleasedVersion = {
  readonly version: string;
  readonly weights: { readonly sha256: string; readonly bytes: number };
  readonly parts: readonly { readonly part: string; readonly sha256: string }[];
};
