// One process at a time may own a home folder. The owner's process id stands in a lock file; a file whose owner is gone
// is taken over. It protects against a second agent on the same machine, not against a folder shared over a network.

import { link, readFile, rename, rm, writeFile } from "node:fs/promises";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { StoreError } from "./store-error.ts";

const Owner = Type.Object(
  {
    pid: Type.Integer({ minimum: 1 }),
    /** When that process started, as its system counts; process ids are used again. Null where it cannot be known. */
    startedAtTicks: Type.Union([Type.String({ pattern: "^[0-9]{1,20}$" }), Type.Null()]),
  },
  { additionalProperties: false },
);
type Owner = Static<typeof Owner>;

export type Lock = { release(): Promise<void> };

/** How often a lock file that vanishes or changes hands in mid-look is looked at again. */
const attemptsMax = 5;

/** @throws StoreError `lock.held` while another living process owns the folder. */
export async function acquireLock(path: string, pid: number): Promise<Lock> {
  const owner: Owner = { pid, startedAtTicks: await startTicks(pid) };
  const own = `${path}.${pid}`;
  await writeFile(own, JSON.stringify(owner), { mode: 0o600 });
  try {
    for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
      if (await linked(own, path)) return { release: () => rm(path, { force: true }) };
      const text = await readFile(path, "utf8").catch(() => null);
      if (text === null) continue; // Released between the two looks.
      if (await isAlive(text, pid)) break;
      await removeDead(path, { text, aside: `${own}.dead` });
    }
  } finally {
    await rm(own, { force: true });
  }
  throw new StoreError(
    "lock.held",
    "Another agent is using this home folder; stop it first, or give this one a folder of its own with --home.",
  );
}

/** A hard link comes into being whole and only where nothing is: the one atomic step of the whole affair. */
async function linked(own: string, path: string): Promise<boolean> {
  try {
    await link(own, path);
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return false;
    throw error;
  }
}

/** Move the dead owner's file away; when another process was faster and it is that one's file, put it back. */
async function removeDead(path: string, { text, aside }: { text: string; aside: string }): Promise<void> {
  await rename(path, aside).catch(() => undefined);
  const moved = await readFile(aside, "utf8").catch(() => null);
  if (moved !== null && moved !== text) await linked(aside, path);
  await rm(aside, { force: true });
}

/** A file that cannot be understood was cut off by a crash while it was being written: nobody owns it. */
async function isAlive(text: string, pid: number): Promise<boolean> {
  const owner = parsedOwner(text);
  if (!owner || owner.pid === pid) return false; // A process of this very id that is not this one has ended.
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
  const ticks = await startTicks(owner.pid);
  return ticks === null || owner.startedAtTicks === null || ticks === owner.startedAtTicks;
}

function parsedOwner(text: string): Owner | null {
  try {
    const value: unknown = JSON.parse(text);
    return Value.Check(Owner, value) ? value : null;
  } catch {
    return null;
  }
}

/** Field 22 of /proc/<pid>/stat (proc(5)), on Linux; the command name before it may hold spaces and brackets. */
async function startTicks(pid: number): Promise<string | null> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields[19] ?? null;
}
