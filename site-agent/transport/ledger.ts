// The outbound ledger: one durable, hash-chained entry before each message that leaves the house. Nothing is sent that
// could not be entered first. Each process writes a book of its own, in files of bounded length, so that reading the
// newest file is enough to go on.

import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Sha256 } from "@consilium/shared/base/brand.ts";
import type { Clock } from "@consilium/shared/base/clock.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import { type ChainedLog, openLog } from "../store/chained-log.ts";
import type { Disk } from "../store/disk.ts";
import { acquireLock, type Lock } from "../store/lock.ts";
import { StoreError } from "../store/store-error.ts";
import { addToTotals, type Channel, emptyTotals, LedgerRecord, type LedgerTotals } from "./ledger-record.ts";

/** Entries of one file: some 30 MB, checked in about a second. */
export const ledgerFileEntriesMax = 100_000;
/** Commands of one home folder that may talk to the coordinator at the same time. */
export const ledgerBooksMax = 8;

export type OutboundMessage = {
  readonly channel: Channel;
  readonly message: string;
  readonly payload: Uint8Array;
};

/** The port through which everything that sends must pass. */
export type OutboundBook = {
  /** Resolves when the entry is durable: only then may the message leave. */
  book(message: OutboundMessage): Promise<void>;
};

/** What the connections of this process have carried so far. */
export type WireMeter = { readonly sentBytes: number; readonly connections: number };

export type LedgerOptions = {
  /** The folder of all books. */
  readonly folder: string;
  readonly clock: Clock;
  readonly pid: number;
  readonly fileEntriesMax?: number;
  readonly disk?: Disk;
};

export const ledgerFileName = (index: number): string => `${String(index).padStart(8, "0")}.jsonl`;
export const ledgerLogName = (index: number): string => `ledger/${index}`;

/** @throws StoreError `lock.held` when every book is in use, `log.damaged` */
export async function openLedger(options: LedgerOptions): Promise<Ledger> {
  for (let book = 1; book <= ledgerBooksMax; book += 1) {
    const folder = join(options.folder, String(book));
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const lock = await acquireLock(join(folder, "lock"), options.pid).catch((error: unknown) => {
      if (error instanceof StoreError && error.code === "lock.held") return null;
      throw error;
    });
    if (lock) return openBook({ ...options, folder }, lock);
  }
  throw new StoreError("lock.held", "Too many commands are talking to the coordinator; wait for one to end.");
}

async function openBook(options: LedgerOptions, lock: Lock): Promise<Ledger> {
  try {
    const ledger = new Ledger(options, lock);
    await ledger.open();
    return ledger;
  } catch (error) {
    await lock.release();
    throw error;
  }
}

export class Ledger implements OutboundBook {
  readonly #options: LedgerOptions;
  readonly #lock: Lock;
  #log: ChainedLog<LedgerRecord> | null = null;
  #index = 1;
  #totals: LedgerTotals = emptyTotals;
  #queue: Promise<void> = Promise.resolve();
  #bookedWire: WireMeter = { sentBytes: 0, connections: 0 };
  #isClosed = false;

  /** For `openLedger`. */
  constructor(options: LedgerOptions, lock: Lock) {
    this.#options = options;
    this.#lock = lock;
  }

  get totals(): LedgerTotals {
    return this.#totals;
  }

  /** Go on with the newest file; an empty one was begun just before a crash. */
  async open(): Promise<void> {
    const newest = (await ledgerFiles(this.#options.folder)).at(-1) ?? 1;
    const entries = await this.#openFile(newest);
    if (entries === 0) await this.#carry(newest > 1 ? await this.#headOf(newest - 1) : null);
    await this.#append({ kind: "opened" });
  }

  async book({ channel, message, payload }: OutboundMessage): Promise<void> {
    if (this.#isClosed) throw new StoreError("log.failed", "The ledger is closed; nothing may be sent.");
    await this.#append({
      kind: "message",
      channel,
      message,
      bytes: payload.length,
      sha256: blobDigest(payload),
    });
  }

  /** Enter what the connections have carried since the last time. */
  async balance(wire: WireMeter): Promise<void> {
    const { sentBytes, connections } = wire;
    const bytes = sentBytes - this.#bookedWire.sentBytes;
    const added = connections - this.#bookedWire.connections;
    if (bytes === 0 && added === 0) return;
    this.#bookedWire = { sentBytes, connections };
    await this.#append({ kind: "wire", bytes, connections: added });
  }

  /** The last balance. Nothing may be sent afterwards. */
  async close(wire: WireMeter): Promise<void> {
    this.#isClosed = true;
    await this.balance(wire);
    await this.#append({ kind: "closed" });
    await this.#lock.release();
  }

  #append(record: LedgerRecord): Promise<void> {
    const appended = this.#queue.then(() => this.#appendInTurn(record));
    this.#queue = appended.catch(() => undefined); // The caller sees the failure, and the log refuses from then on.
    return appended;
  }

  async #appendInTurn(record: LedgerRecord): Promise<void> {
    const { fileEntriesMax = ledgerFileEntriesMax } = this.#options;
    if (this.#file.size >= fileEntriesMax) {
      const head = this.#file.head;
      await this.#openFile(this.#index + 1);
      await this.#carry(head);
    }
    await this.#file.append(record);
    this.#totals = addToTotals(this.#totals, record);
  }

  async #carry(previousHead: Sha256 | null): Promise<void> {
    await this.#file.append({ kind: "carried", previousHead, totals: this.#totals });
  }

  /** The head of a full file, whose totals are read on the way. */
  async #headOf(index: number): Promise<Sha256> {
    const newer = this.#log;
    await this.#openFile(index);
    const { head } = this.#file;
    this.#log = newer;
    this.#index = index + 1;
    return head;
  }

  /** @returns how many entries the file holds */
  async #openFile(index: number): Promise<number> {
    const { folder, clock, disk } = this.#options;
    const { log, entries } = await openLog({
      path: join(folder, ledgerFileName(index)),
      name: ledgerLogName(index),
      schema: LedgerRecord,
      clock,
      ...(disk && { disk }),
    });
    this.#log = log;
    this.#index = index;
    this.#totals = entries.reduce((totals, { record }) => addToTotals(totals, record), this.#totals);
    return entries.length;
  }

  get #file(): ChainedLog<LedgerRecord> {
    if (!this.#log) throw new StoreError("log.failed", "The ledger is not open; start the agent again.");
    return this.#log;
  }
}

/** Numbers of a book's files, ascending. */
export async function ledgerFiles(folder: string): Promise<number[]> {
  const names = await readdir(folder);
  return names
    .filter((name) => /^[0-9]{8}\.jsonl$/.test(name))
    .map((name) => Number.parseInt(name, 10))
    .sort((a, b) => a - b);
}
