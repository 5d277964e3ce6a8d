import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ManualClock } from "@consilium/shared/base/clock.ts";
import fc from "fast-check";
import t from "tap";
import { type Static, Type } from "typebox";
import { mortalDisk } from "../../test/support/mortal-disk.ts";
import { type Journal, openJournal, readJournal } from "./journal.ts";
import { acquireLock } from "./lock.ts";

const Note = Type.Object(
  { kind: Type.Literal("note"), text: Type.String(), value: Type.Number() },
  { additionalProperties: false },
);
type Note = Static<typeof Note>;
const note = (value: number): Note => ({ kind: "note", text: `note "${value}" — ünïcode\n`, value });

const { pid } = process;
const base = { name: "test", schema: Note, clock: new ManualClock(1_000), pid };
const open = (folder: string, disk?: ReturnType<typeof mortalDisk>): Promise<Journal<Note>> =>
  openJournal({ ...base, folder, ...(disk && { disk }) });

async function written(folder: string, values: readonly number[]): Promise<string> {
  const journal = await open(folder);
  for (const value of values) await journal.append(note(value));
  await journal.close();
  return join(folder, "journal.jsonl");
}

t.test("records come back in order, and appending goes on where it stopped", async (t) => {
  const folder = t.testdir({});
  await written(folder, [1, 2.5, -0]);
  const journal = await open(folder);
  t.strictSame(
    journal.records.map(({ value }) => value),
    [1, 2.5, 0],
  );
  await Promise.all([journal.append(note(4)), journal.append(note(5))]);
  await journal.close();
  t.strictSame(
    (await readJournal({ ...base, folder })).map(({ value }) => value),
    [1, 2.5, 0, 4, 5],
  );
});

t.test("a journal cut off at any byte opens with the records that were whole", async (t) => {
  const folder = t.testdir({ cut: {} });
  const path = await written(folder, [1, 2, 3]);
  const bytes = await readFile(path);
  const ends = [...bytes.keys()].filter((index) => bytes[index] === 0x0a).map((index) => index + 1);
  const cut = join(folder, "cut");
  for (let length = 0; length <= bytes.length; length += 1) {
    await copyFile(path, join(cut, "journal.jsonl"));
    await truncate(join(cut, "journal.jsonl"), length);
    const journal = await open(cut);
    const whole = ends.filter((end) => end <= length).length;
    if (journal.records.length !== whole) t.fail(`cut at ${length}: ${journal.records.length} records`);
    await journal.append(note(9));
    await journal.close();
    const again = await readJournal({ ...base, folder: cut });
    if (again.length !== whole + 1) t.fail(`cut at ${length}: the next append is not there`);
  }
  t.pass(`${bytes.length + 1} lengths`);
});

t.test("any changed byte is refused by its line, or was in an unfinished line", async (t) => {
  const folder = t.testdir({});
  const path = await written(folder, [1, 2, 3]);
  const bytes = await readFile(path);
  await fc.assert(
    fc.asyncProperty(fc.nat(bytes.length - 2), fc.integer({ min: 1, max: 255 }), async (index, flip) => {
      const changed = Buffer.from(bytes);
      changed[index] = (changed[index] ?? 0) ^ flip;
      await writeFile(path, changed);
      await t.rejects(open(folder), { code: "log.damaged", message: /^Line [123] of the log/ });
    }),
    { numRuns: 200, seed: 1 },
  );
  await writeFile(path, Buffer.concat([bytes, bytes]));
  await t.rejects(open(folder), { code: "log.damaged", message: /^Line 4 / }, "a replayed line");
  const lines = bytes.toString().trimEnd().split("\n");
  await writeFile(path, `${[lines[0], lines[2]].join("\n")}\n`);
  await t.rejects(open(folder), { code: "log.damaged", message: /^Line 2 / }, "a dropped line");
  await writeFile(path, `${"x".repeat(2 ** 21)}`);
  await t.rejects(open(folder), { code: "log.damaged", message: /^Line 1 / }, "an endless line");
  await writeFile(path, bytes);
  await t.rejects(openJournal({ ...base, name: "other", folder }), { code: "log.damaged" }, "another log's");
});

t.test("whichever disk call the process dies in, every acknowledged record is there", async (t) => {
  const folder = t.testdir({});
  let calls = 1;
  for (; ; calls += 1) {
    const home = join(folder, String(calls));
    await mkdir(home);
    const acknowledged: number[] = [];
    const disk = mortalDisk(calls);
    try {
      const journal = await open(home, disk);
      for (const value of [1, 2, 3]) {
        await journal.append(note(value));
        acknowledged.push(value);
      }
    } catch {
      // Dead, or told by the log that an earlier write failed.
    }
    const survivor = await open(home);
    const found = survivor.records.map(({ value }) => value);
    t.strictSame(found.slice(0, acknowledged.length), acknowledged, `died in call ${calls}`);
    t.ok(found.length <= acknowledged.length + 1, "at most the record in flight more");
    await survivor.close();
    if (disk.calls() < calls) break;
  }
  t.ok(calls > 6, "every append can die in two calls");
});

t.test("after a failed write nothing more is taken", async (t) => {
  const journal = await open(t.testdir({}), mortalDisk(5));
  await journal.append(note(1)).catch(() => undefined);
  await t.rejects(journal.append(note(2)), { code: "log.failed" });
  await t.rejects(journal.append(note(3)), { code: "log.failed" });
});

t.test("a record too large for a line is refused before anything is written", async (t) => {
  const folder = t.testdir({});
  const journal = await open(folder);
  const huge = { kind: "note", text: "x".repeat(2 ** 20), value: 1 } as const;
  await t.rejects(journal.append(huge), { code: "log.entry-too-large" });
  await journal.append(note(1));
  await journal.close();
  t.equal((await readJournal({ ...base, folder })).length, 1);
});

t.test("one living process owns a journal, a dead one does not", async (t) => {
  const folder = t.testdir({});
  const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
  const childPid = child.pid;
  if (childPid === undefined) throw new Error("the child did not start");
  await acquireLock(join(folder, "lock"), childPid);
  await t.rejects(open(folder), { code: "lock.held" });
  child.kill("SIGKILL");
  await once(child, "exit");
  const journal = await open(folder);
  await t.rejects(acquireLock(join(folder, "lock"), 1), { code: "lock.held" }, "it is owned again");
  await journal.close();

  const another = { pid: process.ppid, startedAtTicks: "1" };
  await writeFile(join(folder, "lock"), JSON.stringify(another));
  await (await open(folder)).close();
  t.pass("a process id that was given to another process since is no owner");
  await writeFile(join(folder, "lock"), "");
  await (await open(folder)).close();
  t.pass("an empty lock file is no owner");
});
