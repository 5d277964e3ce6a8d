import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { siteId } from "@consilium/shared/base/brand.ts";
import { ManualClock } from "@consilium/shared/base/clock.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import { generateSigningKey, signingKeyFromSeed } from "@consilium/shared/crypto/keys.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import fc from "fast-check";
import t from "tap";
import { TransparencyLog } from "../../test/support/honest-coordinator/transparency-log.ts";
import { mortalDisk } from "../../test/support/mortal-disk.ts";
import { backoffMs } from "./backoff.ts";
import { openLedger } from "./ledger.ts";
import { ledgerEntries, readLedger } from "./ledger-report.ts";
import { canPass, failuresInARowMax, persist } from "./patience.ts";
import { TransportError } from "./transport-error.ts";
import { Wire } from "./wire.ts";
import { unprovenInARowMax, Witness, type WitnessPorts, witnessIntervalMs } from "./witness.ts";

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const clock = new ManualClock(5_000);
const { pid } = process;

t.test("every message is entered before it leaves, and the balance adds up", async (t) => {
  const folder = t.testdir({});
  const ledger = await openLedger({ folder, clock, pid });
  await ledger.book({ channel: "socket", message: "session.hello", payload: utf8("hello") });
  await ledger.book({ channel: "http", message: "upload.chunk", payload: utf8("tensors") });
  await ledger.book({ channel: "socket", message: "session.hello", payload: utf8("hello") });
  await ledger.balance({ sentBytes: 100, connections: 2 });
  await ledger.balance({ sentBytes: 100, connections: 2 });
  await ledger.close({ sentBytes: 150, connections: 2 });
  const late = { channel: "http", message: "plan.read", payload: utf8("") } as const;
  await t.rejects(ledger.book(late), { code: "log.failed" }, "after the last balance nothing leaves");

  const report = await readLedger(folder);
  t.match(report, {
    payloadBytes: 17,
    wireBytes: 150,
    framingBytes: 133,
    connections: 2,
    unbalancedProcesses: 0,
  });
  t.strictSame(report.messages, [
    { channel: "socket", message: "session.hello", count: 2, bytes: 10 },
    { channel: "http", message: "upload.chunk", count: 1, bytes: 7 },
  ]);
  const digests: string[] = [];
  for await (const { record } of ledgerEntries(join(folder, "1"))) {
    if (record.kind === "message") digests.push(record.sha256);
  }
  t.strictSame(
    digests,
    ["hello", "tensors", "hello"].map((text) => blobDigest(utf8(text))),
  );
});

t.test("files of a ledger are bounded and linked, and none can be dropped or changed", async (t) => {
  const folder = t.testdir({});
  for (let process = 0; process < 3; process += 1) {
    const ledger = await openLedger({ folder, clock, pid, fileEntriesMax: 5 });
    for (let index = 0; index < 7; index += 1) {
      await ledger.book({ channel: "socket", message: "progress", payload: utf8(`${index}`) });
    }
    t.equal(ledger.totals.messages[0]?.count, 7 * (process + 1), "sums go on over files and processes");
    if (process < 2) await ledger.close({ sentBytes: 50, connections: 1 });
    else await rm(join(folder, "1", "lock")); // Killed.
  }
  const report = await readLedger(folder);
  t.match(report, { payloadBytes: 21, wireBytes: 100, unbalancedProcesses: 1 });
  const book = join(folder, "1");
  const names = (await readdir(book)).filter((name) => name.endsWith(".jsonl"));
  t.ok(names.length >= 6, `${names.length} files`);
  for (const name of names.slice(0, -1)) {
    const kept = await readFile(join(book, name));
    await rm(join(book, name));
    await t.rejects(readLedger(folder), { code: "log.damaged" }, `without ${name}`);
    await writeFile(join(book, name), kept.subarray(0, kept.lastIndexOf("\n", kept.length - 2) + 1));
    await t.rejects(readLedger(folder), { code: "log.damaged" }, `without the last line of ${name}`);
    await writeFile(join(book, name), kept);
  }
  t.equal((await readLedger(folder)).payloadBytes, 21);
});

t.test("whichever disk call the process dies in, what was said to be entered is there", async (t) => {
  const root = t.testdir({});
  for (let calls = 1; ; calls += 1) {
    const folder = join(root, String(calls));
    const disk = mortalDisk(calls);
    let entered = 0;
    try {
      const ledger = await openLedger({ folder, clock, pid, disk, fileEntriesMax: 3 });
      for (let index = 0; index < 4; index += 1) {
        await ledger.book({ channel: "http", message: "upload.chunk", payload: utf8("1234") });
        entered += 1;
      }
    } catch {
      // Dead.
    }
    await rm(join(folder, "1", "lock"), { force: true });
    const survivor = await openLedger({ folder, clock, pid, fileEntriesMax: 3 });
    const found = survivor.totals.messages[0]?.count ?? 0;
    if (found < entered || found > entered + 1)
      t.fail(`died in call ${calls}: ${found} of ${entered} entries`);
    await survivor.close({ sentBytes: 0, connections: 0 });
    t.equal((await readLedger(folder)).payloadBytes, 4 * found, `died in call ${calls}`);
    if (disk.calls() < calls) break;
  }
});

t.test("commands that talk at the same time keep books of their own", async (t) => {
  const folder = t.testdir({});
  const first = await openLedger({ folder, clock, pid: process.ppid });
  const second = await openLedger({ folder, clock, pid });
  await first.book({ channel: "http", message: "plan.read", payload: utf8("") });
  await second.book({ channel: "http", message: "plan.read", payload: utf8("x") });
  await first.close({ sentBytes: 10, connections: 1 });
  await second.close({ sentBytes: 20, connections: 1 });
  t.match(await readLedger(folder), {
    wireBytes: 30,
    connections: 2,
    messages: [{ count: 2, bytes: 1 }],
  });
});

t.test("delays grow with failures, up to a bound, and are drawn over their whole range", async (t) => {
  const limits = { firstMs: 100, maxMs: 1000 };
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1000 }),
      fc.double({ min: 0, max: 0.999999, noNaN: true }),
      (n, chance) => {
        const delay = backoffMs(n, chance, limits);
        return delay >= 0 && delay < Math.min(1000, 100 * 2 ** (n - 1));
      },
    ),
  );
  t.strictSame(
    [1, 2, 3, 4, 5, 60].map((n) => backoffMs(n, 0.5, limits)),
    [50, 100, 200, 400, 500, 500],
  );
});

t.test("what can pass is tried again while there is progress, what cannot is not", async (t) => {
  const pauses: number[] = [];
  const patience = { prng: new Prng(1), pause: async (ms: number) => void pauses.push(ms) };
  let calls = 0;
  const unreachable = async (): Promise<never> => {
    calls += 1;
    throw new TransportError("transport.unreachable");
  };
  await t.rejects(persist(unreachable, patience), { code: "transport.unreachable" });
  t.equal(calls, failuresInARowMax);
  t.equal(pauses.length, failuresInARowMax - 1);

  calls = 0;
  const slow = async (progressed: () => void): Promise<string> => {
    calls += 1;
    progressed();
    if (calls < 40) throw new ProtocolError("request.rate-limited");
    return "done";
  };
  t.equal(await persist(slow, patience), "done");

  calls = 0;
  const refused = async (): Promise<never> => {
    calls += 1;
    throw new ProtocolError("site.not-active");
  };
  await t.rejects(persist(refused, patience), { code: "site.not-active" });
  t.equal(calls, 1);
  t.notOk(canPass(new Error("a fault of the program")));
  await t.rejects(persist(unreachable, { ...patience, signal: AbortSignal.abort() }), {
    code: "transport.aborted",
  });
});

t.test("an unencrypted coordinator elsewhere is refused unless that is asked for by name", async (t) => {
  const wire = (url: string, insecureHttp = false): Wire => new Wire({ base: new URL(url), insecureHttp });
  for (const url of [
    "http://127.0.0.1:1",
    "http://localhost",
    "http://[::1]:8",
    "https://coordinator.example",
  ]) {
    t.ok(wire(url));
  }
  for (const url of [
    "http://coordinator.example",
    "http://10.0.0.1",
    "http://127.0.0.1.example",
    "http://128.0.0.1",
  ]) {
    t.throws(() => wire(url), { code: "transport.insecure" }, url);
    t.ok(wire(url, true));
  }
});

t.test("a witness keeps what continues, and raises an alarm for everything else", async (t) => {
  const identity = { site: siteId("hospital-a"), origin: "consilium.test/log", key: generateSigningKey() };
  const logKey = signingKeyFromSeed(new Uint8Array(32).fill(7));
  const log = new TransparencyLog(identity.origin, logKey);
  const events: Parameters<WitnessPorts["report"]>[0][] = [];
  let held: { size: number; note: string } | null = null;
  let unchecked = 0;
  const time = new ManualClock(0);
  const witness = new Witness({
    identity,
    clock: time,
    coordinatorKey: logKey.publicKey,
    held: () => held,
    consistency: async (from, to) => {
      const proof = log.consistency(from, to);
      if (!proof) throw new ProtocolError("proof.out-of-range");
      return proof;
    },
    report: async (event) => {
      events.push(event);
      if (event.kind === "witnessed") held = { size: event.size, note: event.note };
    },
    onUnchecked: () => {
      unchecked += 1;
    },
  });
  for (let size = 1; size <= 20; size += 1) {
    log.append(`entry ${size}`);
    await witness.observe(log.checkpoint());
    await witness.observe(log.checkpoint());
    if (size > 10) time.advance(witnessIntervalMs / 2);
  }
  t.equal(events.length, 5, "the first, and then one every so often");
  await witness.flush();
  await witness.flush();
  t.match(held, { size: 20 }, "the newest is kept before the end");
  t.equal(events.length, 6);
  await witness.observe(log.checkpoint(7));
  t.equal(events.length, 6, "an older checkpoint of the same log says nothing");

  const reasons = (): unknown[] =>
    events.splice(0).map((event) => (event.kind === "log-inconsistent" ? event.reason : event.kind));
  events.length = 0;
  const forger = new TransparencyLog(identity.origin, generateSigningKey());
  forger.append("entry 1");
  await witness.observe(forger.checkpoint());
  await witness.observe("not a note at all");
  t.strictSame(reasons(), ["bad-signature", "bad-signature"]);

  log.rewrite(19, ["another entry 20"]);
  await witness.observe(log.checkpoint());
  t.strictSame(reasons(), ["inconsistent"], "another tree of the same size");
  log.append("entry 21");
  await witness.observe(log.checkpoint());
  t.strictSame(reasons(), ["inconsistent"], "a larger tree that does not continue");
  log.rewrite(3, ["short"]);
  for (let check = 1; check <= unprovenInARowMax; check += 1) await witness.observe(log.checkpoint());
  t.strictSame(reasons(), ["shrunk"], "a smaller tree that cannot be proven");
  t.equal(unchecked, unprovenInARowMax - 1);
});

t.test("a witness checks one checkpoint at a time and, of those that wait, the newest", async (t) => {
  const identity = { site: siteId("hospital-a"), origin: "consilium.test/log", key: generateSigningKey() };
  const logKey = generateSigningKey();
  const log = new TransparencyLog(identity.origin, logKey);
  let held: { size: number; note: string } | null = null;
  const time = new ManualClock(0);
  let running = 0;
  const asked: number[] = [];
  const gates: (() => void)[] = [];
  const witness = new Witness({
    identity,
    clock: time,
    coordinatorKey: logKey.publicKey,
    held: () => held,
    consistency: async (from, to) => {
      running += 1;
      time.advance(witnessIntervalMs);
      t.equal(running, 1, "one at a time");
      asked.push(to);
      await new Promise<void>((resolve) => gates.push(resolve));
      running -= 1;
      return log.consistency(from, to) ?? [];
    },
    report: async (event) => {
      if (event.kind === "witnessed") held = { size: event.size, note: event.note };
    },
    onUnchecked: (error) => t.fail(String(error)),
  });
  log.append("1");
  await witness.observe(log.checkpoint());
  const observed = [2, 3, 4, 5].map((size) => {
    log.append(String(size));
    return witness.observe(log.checkpoint());
  });
  gates[0]?.();
  while (gates.length < 2) await new Promise((resolve) => setImmediate(resolve));
  gates[1]?.();
  await Promise.all(observed);
  t.strictSame(asked, [2, 5]);
  t.match(held, { size: 5 });
});
