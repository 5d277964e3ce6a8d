// The ledger read back and checked: every file's chain, the links between files, and the balance of what was said
// against what the connections carried. It only reads, and runs beside an agent at work.

import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { Sha256 } from "@consilium/shared/base/brand.ts";
import { canonicalJsonText } from "@consilium/shared/encoding/canonical-json.ts";
import { type LogEntry, readLog } from "../store/chained-log.ts";
import { StoreError } from "../store/store-error.ts";
import { ledgerFileName, ledgerFiles, ledgerLogName } from "./ledger.ts";
import { addToTotals, emptyTotals, LedgerRecord, type LedgerTotals, mergeTotals } from "./ledger-record.ts";

export type LedgerReport = {
  /** By channel and kind, largest first. */
  readonly messages: LedgerTotals["messages"];
  readonly payloadBytes: number;
  readonly wireBytes: number;
  /** Wire minus payload: request lines, headers, websocket frames, heartbeats, encryption. */
  readonly framingBytes: number;
  readonly connections: number;
  /** Processes that were ended without a last balance: their newest bytes are not in the wire total. */
  readonly unbalancedProcesses: number;
  readonly entries: number;
  readonly firstAtMs: number | null;
  readonly lastAtMs: number | null;
};

/** @throws StoreError `log.damaged` when an entry was changed, dropped or reordered. */
export async function readLedger(folder: string): Promise<LedgerReport> {
  const books = (await readdir(folder).catch(() => [])).filter((name) => /^[1-9]$/.test(name));
  const read = await Promise.all(books.map((name) => readBook(join(folder, name))));
  const totals = mergeTotals(read.map((book) => book.totals));
  const times = read
    .flatMap(({ firstAtMs, lastAtMs }) => [firstAtMs, lastAtMs])
    .filter((time) => time !== null);
  const payloadBytes = totals.messages.reduce((sum, { bytes }) => sum + bytes, 0);
  return {
    messages: [...totals.messages].sort(
      (a, b) => b.bytes - a.bytes || (`${a.channel}${a.message}` < `${b.channel}${b.message}` ? -1 : 1),
    ),
    payloadBytes,
    wireBytes: totals.wireBytes,
    framingBytes: totals.wireBytes - payloadBytes,
    connections: totals.connections,
    unbalancedProcesses: totals.opened - totals.closed,
    entries: read.reduce((sum, book) => sum + book.entries, 0),
    firstAtMs: times.length > 0 ? Math.min(...times) : null,
    lastAtMs: times.length > 0 ? Math.max(...times) : null,
  };
}

/** Every single entry of a file of a book, for whoever wants to see them all. */
export async function* ledgerEntries(folder: string): AsyncGenerator<LogEntry<LedgerRecord>> {
  for (const index of await ledgerFiles(folder)) yield* (await readFile(folder, index)).entries;
}

type BookSummary = {
  readonly totals: LedgerTotals;
  readonly entries: number;
  readonly firstAtMs: number | null;
  readonly lastAtMs: number | null;
};

async function readBook(folder: string): Promise<BookSummary> {
  let totals = emptyTotals;
  let head: Sha256 | null = null;
  let entryCount = 0;
  let firstAtMs: number | null = null;
  let lastAtMs: number | null = null;
  for (const [position, index] of (await ledgerFiles(folder)).entries()) {
    const { entries } = await readFile(folder, index);
    expectLink(entries[0]?.record, { head, totals, isNumbered: index === position + 1 });
    totals = entries.reduce((sum, { record }) => addToTotals(sum, record), totals);
    head = entries.at(-1)?.hash ?? head;
    entryCount += entries.length;
    firstAtMs ??= entries[0]?.atMs ?? null;
    lastAtMs = entries.at(-1)?.atMs ?? lastAtMs;
  }
  return { totals, entries: entryCount, firstAtMs, lastAtMs };
}

function expectLink(
  first: LedgerRecord | undefined,
  before: { head: Sha256 | null; totals: LedgerTotals; isNumbered: boolean },
): void {
  if (first === undefined && before.isNumbered) return; // Begun just before a crash.
  const isLinked =
    before.isNumbered &&
    first?.kind === "carried" &&
    first.previousHead === before.head &&
    canonicalJsonText(first.totals) === canonicalJsonText(before.totals);
  if (isLinked) return;
  throw new StoreError("log.damaged", "A file of the ledger is missing or is not the one that was written.");
}

async function readFile(folder: string, index: number): Promise<{ entries: LogEntry<LedgerRecord>[] }> {
  const path = join(folder, ledgerFileName(index));
  return readLog({ path, name: ledgerLogName(index), schema: LedgerRecord });
}
