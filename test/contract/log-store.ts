// What every LogStore and SessionStore must do, run on each implementation.

import type {
  Append,
  LogStore,
  SessionStore,
  StoredEntry,
} from "@consilium/coordinator/persistence/ports.ts";
import type { SiteId } from "@consilium/shared/base/brand.ts";
import type { Test } from "tap";

const entry = (index: number): StoredEntry => ({
  index,
  kind: "site.suspended",
  study: index % 2 === 0 ? null : "small",
  leaf: `{"index":${index},"text":"ä\\u0000€"}`,
  leafHash: new Uint8Array(32).fill(index),
});

const append = (first: number, count: number, changes: Append["changes"] = []): Append => {
  const entries = Array.from({ length: count }, (_, at) => entry(first + at));
  return { entries, checkpoint: { size: first + count, note: `note ${first + count}` }, changes };
};

export async function logStoreContract(t: Test, store: LogStore): Promise<void> {
  t.equal(await store.size(), 0);
  t.equal(await store.latestCheckpoint(), null);
  t.strictSame(await store.read(0, 10), []);

  const site = {
    site: "hospital-a",
    status: "active",
    publicKey: "key",
    invitation: "i",
    enrolledAtMs: 2 ** 52,
  };
  await store.append(append(0, 3, [{ table: "site", row: site }]));
  await store.append(append(3, 1, [{ table: "site", row: { ...site, status: "retired" } }]));
  t.equal(await store.size(), 4);
  t.strictSame(await store.read(1, 2), [entry(1), entry(2)]);
  t.strictSame(await store.latestCheckpoint(), { size: 4, number: 1, note: "note 4" });
  t.strictSame(
    (await store.checkpoints()).map(({ size }) => size),
    [3, 4],
  );
  t.strictSame(
    [...(await store.tables()).site.values()],
    [{ ...site, status: "retired" }],
    "a row is replaced as a whole",
  );

  for (const first of [0, 3, 5]) {
    await t.rejects(
      store.append(append(first, 1)),
      { code: "log.conflict" },
      `appending at ${first} to a log of 4`,
    );
  }
  const failing = {
    ...append(4, 1),
    changes: [{ table: "round_update", row: { study: "only a part of the key" } }],
  } as const;
  if (store.constructor.name !== "MemoryLogStore") {
    await t.rejects(store.append(failing), Error, "a change that cannot be written");
    t.equal(await store.size(), 4, "all or nothing");
  }
  const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => store.append(append(4, 2))));
  t.equal(
    outcomes.filter(({ status }) => status === "fulfilled").length,
    1,
    "of writers at once, one is first",
  );
  t.equal(await store.size(), 6);
}

const everyTable = {
  invitation: { invitation: "i", site: "hospital-a", expiresAtMs: 5, used: false },
  study: {
    study: "s",
    plan: null,
    phase: "waiting",
    round: 0,
    completedRounds: 0,
    deadlineMs: 0,
    last: null,
    best: null,
    bestMeanDice: null,
    released: null,
  },
  plan_approval: { study: "s", site: "hospital-a", examples: 3, withdrawn: false },
  round: {
    study: "s",
    round: 1,
    baseVersion: "v",
    deadlineMs: 7,
    status: "open",
    sites: ["hospital-a", "hospital-b"],
  },
  round_update: { study: "s", round: 1, site: "hospital-a", delta: "d", update: "u", examples: 3 },
  refusal: { index: 9, study: null, round: null, site: "hospital-a", code: "c", document: "d" },
  model_version: {
    version: "v",
    study: "s",
    round: 1,
    parent: null,
    contributors: ["hospital-a"],
    weightsSha256: "w",
    weightsBytes: 10,
    judged: "pending",
    meanDice: 0.123456,
    withdrawn: false,
  },
  evaluation: { version: "v", site: "hospital-a", meanDice: null },
} as const;

/** Every projection keeps what is written to it, column by column. */
export async function projectionContract(t: Test, store: LogStore): Promise<void> {
  const size = await store.size();
  const changes = Object.entries(everyTable).map(
    ([table, row]) => ({ table, row }) as Append["changes"][number],
  ); // Object.entries forgets the keys.
  await store.append(append(size, 1, changes));
  await store.append(append(size + 1, 1, changes));
  const tables = await store.tables();
  for (const { table, row } of changes) t.strictSame([...tables[table].values()], [row], table);
}

export async function sessionStoreContract(t: Test, store: SessionStore): Promise<void> {
  const site = "hospital-a" as SiteId; // A slug.
  await store.saveChallenge("c1", site, 100);
  await store.saveChallenge("c2", site, 100);
  const taken = await Promise.all([1, 2, 3].map(() => store.takeChallenge("c1", 50)));
  t.strictSame(
    taken.filter((one) => one !== null),
    [site],
    "a challenge is taken once",
  );
  t.equal(await store.takeChallenge("c2", 100), null, "not after it has expired");
  t.equal(await store.takeChallenge("c3", 50), null);
  await store.saveSession("t1", site, 100);
  t.equal(await store.findSession("t1", 99), site);
  t.equal(await store.findSession("t1", 100), null);
  await store.saveSession("t2", site, 200);
  await store.sweep(150);
  t.equal(await store.findSession("t1", 50), null, "what has expired is forgotten");
  t.equal(await store.findSession("t2", 50), site);
}
