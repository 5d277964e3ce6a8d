// The evidence bundle under attack: every byte of it counts, and the verifier trusts nothing but the keys it is given.

import { readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { type ArchiveEntry, readArchive, writeArchive } from "@consilium/coordinator/evidence/cpio.ts";
import { type Verdict, verifyEvidence } from "@consilium/coordinator/evidence/verify-evidence.ts";
import { MemoryLogStore, MemorySessionStore } from "@consilium/coordinator/persistence/memory-stores.ts";
import type { PublicKey } from "@consilium/shared/base/brand.ts";
import { ManualClock } from "@consilium/shared/base/clock.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { dayMs } from "@consilium/shared/base/units.ts";
import { generateSigningKey } from "@consilium/shared/crypto/keys.ts";
import t from "tap";
import {
  openSmallStudy,
  runSmallStudy,
  startFederation,
  type TestFederation,
} from "../support/federation.ts";

type Case = {
  federation: TestFederation;
  version: string;
  bundle: Uint8Array;
  keys: PublicKey[];
  witness: string;
};

async function makeCase(
  rounds: number,
  changes: Record<string, unknown> = {},
  clock?: ManualClock,
): Promise<Case> {
  const stores = { logStore: new MemoryLogStore(), sessionStore: new MemorySessionStore() };
  const federation = await startFederation(stores, clock);
  const sites = [await federation.enrol("hospital-a"), await federation.enrol("hospital-b")];
  const first = await federation.operator("GET", "/v1/audit/checkpoint");
  const defaults = {
    rounds: {
      count: rounds,
      quorum: 2,
      recruitmentMs: 60_000,
      trainingMs: 60_000,
      evaluationMs: 60_000,
      abandonedInARowMax: 3,
    },
  };
  const open = await openSmallStudy(federation, sites, { changes: { ...defaults, ...changes } });
  const version = await runSmallStudy(open, rounds);
  const { body } = await federation.operator("GET", "/v1/sites");
  const federationKey = (await (await fetch(`${federation.url}/v1/federation`)).json()) as {
    coordinatorKey: PublicKey;
  }; // FederationAnswer.
  t.ok(body);
  return {
    federation,
    version,
    bundle: await download(federation, version),
    keys: [federationKey.coordinatorKey],
    witness: String(first.body["checkpoint"]),
  };
}

async function download(federation: TestFederation, version: string): Promise<Uint8Array> {
  const response = await fetch(`${federation.url}/v1/versions/${version}/evidence`, {
    headers: { authorization: `Bearer ${federation.operatorToken}` },
  });
  if (!response.ok) throw new Error(await response.text());
  return new Uint8Array(await response.arrayBuffer());
}

const verdictOf = async (
  bundle: Uint8Array,
  keys: readonly PublicKey[],
  witness: string | null = null,
): Promise<Verdict> => verifyEvidence(bundle, { keys, witness });

t.test("an honest bundle verifies, and every aggregate in it is recomputed bit for bit", async (t) => {
  const { federation, bundle, keys, witness } = await makeCase(2);
  t.teardown(() => federation.close());
  const verdict = await verdictOf(bundle, keys, witness);
  t.match(verdict, { verdict: "verified", faults: [] });
  t.ok(
    verdict.facts.some((fact) =>
      fact.includes("aggregate of round 2 was recomputed bit for bit from 2 updates"),
    ),
  );
  t.ok(verdict.facts.some((fact) => fact.includes("drawn again from seed 1")));
  t.ok(verdict.facts.some((fact) => fact.includes("the witness has kept")));
  t.strictSame(writeArchive(readArchive(bundle)), bundle, "a bundle is the one form of its content");
  t.match(await verdictOf(bundle, [generateSigningKey().publicKey]), {
    verdict: "failed",
    faults: [/not signed by any of the trusted keys/],
  });
});

t.test("no bundle of at most 20 kB survives a single flipped bit in any of its bytes", async (t) => {
  const { federation, bundle, keys } = await makeCase(1);
  t.teardown(() => federation.close());
  t.ok(bundle.length <= 20 * 1024, `the bundle has ${bundle.length} bytes`);
  const prng = new Prng(1);
  const survived: number[] = [];
  for (let at = 0; at < bundle.length; at += 1) {
    const copy = Uint8Array.from(bundle);
    copy[at] = (copy[at] ?? 0) ^ (1 << prng.int(0, 7));
    const { verdict } = await verdictOf(copy, keys);
    if (verdict !== "failed") survived.push(at);
  }
  t.strictSame(survived, []);
});

t.test("what was added, removed, repeated, reordered or cut is named", async (t) => {
  const { federation, bundle, keys } = await makeCase(1);
  t.teardown(() => federation.close());
  const entries = readArchive(bundle);
  const fault = async (changed: Uint8Array): Promise<string> =>
    (await verdictOf(changed, keys)).faults.join("; ");
  const file = (name: string): ArchiveEntry =>
    entries.find((entry) => entry.name === name) ?? { name, bytes: new Uint8Array() };
  const replace = (name: string, bytes: Uint8Array): Uint8Array =>
    writeArchive(entries.map((entry) => (entry.name === name ? { name, bytes } : entry)));

  t.match(
    await fault(writeArchive([...entries, { name: "notes.txt", bytes: new Uint8Array(3) }])),
    /extra file notes.txt/,
  );
  t.match(
    await fault(writeArchive([...entries, { name: `blobs/${"0".repeat(64)}`, bytes: new Uint8Array(3) }])),
    /extra file blobs/,
  );
  t.match(await fault(writeArchive([...entries, ...entries.slice(-1)])), /is in the bundle twice/);
  t.match(await fault(writeArchive([...entries].reverse())), /not in the order of a bundle/);
  for (const { name } of entries)
    t.match(
      await fault(writeArchive(entries.filter((entry) => entry.name !== name))),
      /missing/,
      `without ${name}`,
    );
  t.match(
    await fault(replace("index.json", Buffer.concat([file("index.json").bytes, Buffer.from("\n")]))),
    /canonical/,
    "white space in the index",
  );
  t.match(
    await fault(replace("log.jsonl", Buffer.concat([file("log.jsonl").bytes, Buffer.from("\n")]))),
    /signed for 18 entries, the log has 19/,
  );
  t.match(
    await fault(replace("checkpoint.txt", Buffer.concat([file("checkpoint.txt").bytes, Buffer.from("\n")]))),
    /not signed by any of the trusted keys/,
  );
  t.match(
    await fault(new Uint8Array(Buffer.concat([bundle, new Uint8Array(512)]))),
    /after the end of the archive/,
  );
  for (const cut of [0, 1, 511, 512, 1000, bundle.length - 1, bundle.length - 512, bundle.length - 1024]) {
    t.match(await fault(bundle.slice(0, cut)), /ends too early/, `cut after ${cut} bytes`);
  }
});

t.test(
  "a coordinator that rewrites its own log is caught by the witness, with all its keys in order",
  async (t) => {
    const honest = await makeCase(1);
    t.teardown(() => honest.federation.close());
    const head = await honest.federation.operator("GET", "/v1/audit/checkpoint");
    const newest = String(head.body["checkpoint"]);
    t.match(await verdictOf(honest.bundle, honest.keys, newest), { verdict: "verified" });

    const entries = readArchive(honest.bundle);
    t.match(await verdictOf(honest.bundle, honest.keys, honest.witness), { verdict: "verified" });
    const study = await honest.federation.operator("POST", "/v1/studies/small/release", {
      version: null,
      reason: "for use",
    });
    t.equal(study.status, 200);
    const later = String(
      (await honest.federation.operator("GET", "/v1/audit/checkpoint")).body["checkpoint"],
    );
    t.match(await verdictOf(honest.bundle, honest.keys, later), {
      verdict: "failed",
      faults: [/older than the witness's/],
    });

    // The same key over another history: another federation of the same coordinator, as a rewritten log would be.
    const other = await makeCase(1);
    t.teardown(() => other.federation.close());
    t.match(await verdictOf(honest.bundle, honest.keys, other.witness), {
      verdict: "failed",
      faults: [/not one of this log/],
    });
    t.ok(entries.length > 3);
  },
);

t.test(
  "tensors deleted under the retention rule make a bundle that cannot be recomputed, and is not called tampered",
  async (t) => {
    const clock = new ManualClock(1_000_000);
    const { federation, version, keys } = await makeCase(1, { retention: { updateDays: 1 } }, clock);
    t.teardown(() => federation.close());
    clock.advance(2 * dayMs);
    await federation.restart();
    const deleted = await poll(async () => {
      const { body } = await federation.operator("GET", "/v1/audit/entries?from=0&limit=500");
      return (body["entries"] as string[]).some((leaf) => leaf.includes('"kind":"blobs.deleted"')); // EntriesAnswer.
    });
    t.ok(deleted);
    const bundle = await download(federation, version);
    const verdict = await verdictOf(bundle, keys);
    t.match(verdict, { verdict: "not-recomputable", faults: [] });
    t.ok(verdict.facts.some((fact) => fact.includes("2 blobs were deleted under the retention rule")));
    t.match((await federation.operator("POST", "/v1/audit/verification", {})).body, { ok: true });
  },
);

t.test("tensors that are simply gone are missing", async (t) => {
  const { federation, version, keys, bundle } = await makeCase(1);
  t.teardown(() => federation.close());
  const blob =
    readArchive(bundle)
      .find(({ name }) => name.startsWith("blobs/"))
      ?.name.slice("blobs/".length) ?? "";
  rmSync(find(federation.folder, blob));
  t.match(await verdictOf(await download(federation, version), keys), {
    verdict: "failed",
    faults: [/is missing and was not deleted under the retention rule/],
  });
});

/** Asks until it is so; the test's own time limit is the bound. */
async function poll(condition: () => Promise<boolean>): Promise<boolean> {
  while (!(await condition()));
  return true;
}

function find(folder: string, name: string): string {
  for (const entry of readdirSync(folder)) {
    const path = join(folder, entry);
    if (entry === name && !path.includes("uploads")) return path;
    if (statSync(path).isDirectory()) {
      const found = find(path, name);
      if (found) return found;
    }
  }
  return "";
}
