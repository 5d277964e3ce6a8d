// The site's journal: its durable records in order, owned by one process at a time. The state of the agent is a fold
// over it. What a record means is given by the schema it is opened with.

import { join } from "node:path";
import type { Static, TSchema } from "typebox";
import { type ChainedLog, type LogEntry, type LogOptions, openLog, readLog } from "./chained-log.ts";
import { acquireLock, type Lock } from "./lock.ts";

export type JournalOptions<S extends TSchema> = Omit<LogOptions<S>, "path"> & {
  readonly folder: string;
  readonly pid: number;
};

export class Journal<T> {
  /** Everything that was in the journal when it was opened. */
  readonly records: readonly T[];
  /** Bytes of an unfinished last line that a crash had left and opening has dropped. */
  readonly droppedBytes: number;
  readonly #log: ChainedLog<T>;
  readonly #lock: Lock;

  /** For `openJournal`. */
  constructor(
    opened: { log: ChainedLog<T>; entries: readonly LogEntry<T>[]; droppedBytes: number },
    lock: Lock,
  ) {
    this.records = opened.entries.map(({ record }) => record);
    this.droppedBytes = opened.droppedBytes;
    this.#log = opened.log;
    this.#lock = lock;
  }

  /** Resolves when the record is durable. */
  async append(record: T): Promise<void> {
    await this.#log.append(record);
  }

  /** Nothing may be appended afterwards. */
  async close(): Promise<void> {
    await this.#lock.release();
  }
}

const fileName = "journal.jsonl";

/** @throws StoreError `lock.held`, `log.damaged` */
export async function openJournal<S extends TSchema>(
  options: JournalOptions<S>,
): Promise<Journal<Static<S>>> {
  const { folder, pid, ...log } = options;
  const lock = await acquireLock(join(folder, "lock"), pid);
  try {
    return new Journal(await openLog({ ...log, path: join(folder, fileName) }), lock);
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** The records as they stand, for a report beside a running agent. @throws StoreError `log.damaged` */
export async function readJournal<S extends TSchema>(
  options: Pick<JournalOptions<S>, "folder" | "name" | "schema">,
): Promise<readonly Static<S>[]> {
  const { folder, ...log } = options;
  const { entries } = await readLog({ ...log, path: join(folder, fileName) });
  return entries.map(({ record }) => record);
}
