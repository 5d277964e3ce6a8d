// The log as the coordinator uses it: the state that its entries add up to, and the one way to add to them. A change
// is decided under the latest state and appended with its signed checkpoint in one transaction; if another
// coordinator was first, it is decided again.

import { assert } from "@consilium/shared/base/assert.ts";
import type { Clock } from "@consilium/shared/base/clock.ts";
import { openCheckpoint, signCheckpoint } from "@consilium/shared/crypto/checkpoint.ts";
import type { SigningKey } from "@consilium/shared/crypto/keys.ts";
import { equalBytes, leafHash, MerkleTree, type TreeHead } from "@consilium/shared/crypto/merkle.ts";
import {
  evolveFederation,
  type FederationState,
  initialFederationState,
} from "@consilium/shared/protocol/federation.ts";
import type { LogEntry, LogRecord } from "@consilium/shared/protocol/records.ts";
import { protocolVersion } from "@consilium/shared/protocol/version.ts";
import { LogConflictError, type LogStore, type StoredCheckpoint } from "../persistence/ports.ts";
import { project, type RowChange, rowKey } from "../persistence/projection.ts";
import { fromStored, LeafError, toStored } from "./leaf.ts";

const pageEntries = 1000;
/** Conflicts in a row after which something other than an honest second coordinator is at work. */
const conflictsMax = 100;

export type AuditLogOptions = {
  readonly store: LogStore;
  readonly key: SigningKey;
  readonly clock: Clock;
  /** Name of the log, fixed by its first entry. */
  readonly origin: string;
};

export class AuditLog {
  readonly origin: string;
  readonly #store: LogStore;
  readonly #key: SigningKey;
  readonly #clock: Clock;
  readonly #tree = new MerkleTree();
  readonly #listeners = new Set<(entry: LogEntry) => void>();
  #state: FederationState = initialFederationState;
  #checkpoint = "";
  #turn: Promise<unknown> = Promise.resolve();

  private constructor({ store, key, clock, origin }: AuditLogOptions) {
    this.#store = store;
    this.#key = key;
    this.#clock = clock;
    this.origin = origin;
  }

  /**
   * Read the whole log and check it against its own latest checkpoint; begin it if it is empty.
   * @throws LeafError when the stored log is not the one that was signed: nothing may be built on it
   */
  static async open(options: AuditLogOptions): Promise<AuditLog> {
    const log = new AuditLog(options);
    await log.#refresh();
    // Another coordinator may append in between; what it appends is signed.
    while ((await options.store.size()) > log.size) if (!(await log.#refresh())) throw unsigned();
    if (log.size === 0) {
      const { origin, key } = options;
      await log.append(() => [
        { kind: "log.opened", origin, coordinatorKey: key.publicKey, protocol: protocolVersion },
      ]);
    }
    const { opened } = log.state;
    if (opened?.origin !== options.origin || opened.coordinatorKey !== options.key.publicKey) {
      throw new LeafError(
        "the log was opened under another name or key: restore the key file that belongs to this database",
      );
    }
    return log;
  }

  get state(): FederationState {
    return this.#state;
  }

  get size(): number {
    return this.#tree.size;
  }

  get tree(): Pick<MerkleTree, "size" | "root" | "leaf" | "inclusionProof" | "consistencyProof"> {
    return this.#tree;
  }

  /** The signed note of the latest tree head. */
  get checkpoint(): string {
    return this.#checkpoint;
  }

  /** Told of every entry once it is durable, in order. */
  onEntry(listener: (entry: LogEntry) => void): void {
    this.#listeners.add(listener);
  }

  /** See what other coordinators have appended. @throws LeafError when it is not what they have signed */
  async refresh(): Promise<void> {
    await this.#inTurn(() => this.#refresh());
  }

  /**
   * Append what `decide` asks for under the latest state, all or nothing. `decide` may be called again, and whatever
   * it throws under the latest state is thrown here with nothing appended.
   */
  append(decide: (state: FederationState, nowMs: number) => readonly LogRecord[]): Promise<LogEntry[]> {
    return this.#inTurn(async () => {
      for (let conflicts = 0; ; conflicts += 1) {
        assert(conflicts < conflictsMax, "the log never stops changing under this coordinator");
        const nowMs = this.#clock.nowMs();
        let records: readonly LogRecord[];
        try {
          records = decide(this.#state, nowMs);
        } catch (error) {
          if (await this.#refresh()) continue; // What is refused may be allowed by what another coordinator appended.
          throw error;
        }
        if (records.length === 0) return [];
        try {
          return await this.#commit(records, nowMs);
        } catch (error) {
          if (!(error instanceof LogConflictError)) throw error;
          if (!(await this.#refresh())) throw unsigned();
        }
      }
    });
  }

  async #commit(records: readonly LogRecord[], nowMs: number): Promise<LogEntry[]> {
    const before = this.size;
    const entries = records.map((record, at): LogEntry => ({ index: before + at, atMs: nowMs, record }));
    const stored = entries.map(toStored);
    const changes: RowChange[] = [];
    let state = this.#state;
    for (const entry of entries) {
      state = evolveFederation(state, entry);
      changes.push(...project(entry, state));
    }
    for (const { leafHash: hash } of stored) this.#tree.append(hash);
    const note = this.#sign();
    try {
      await this.#store.append({
        entries: stored,
        checkpoint: { size: this.size, note },
        changes: latest(changes),
      });
    } catch (error) {
      this.#tree.truncate(before);
      throw error;
    }
    this.#adopt(entries, state, note);
    return entries;
  }

  /** Take over the entries up to the latest signed head. Returns whether there were any. */
  async #refresh(): Promise<boolean> {
    const stored = await this.#store.latestCheckpoint();
    if ((stored?.size ?? 0) < this.size)
      throw new LeafError("the database has lost entries that were signed: see `consilium audit verify`");
    if (!stored || stored.size === this.size) return false;
    const before = this.size;
    try {
      const entries = await this.#readUpTo(this.#signedHead(stored));
      this.#adopt(entries, entries.reduce(evolveFederation, this.#state), stored.note);
      return true;
    } catch (error) {
      this.#tree.truncate(before);
      throw error;
    }
  }

  async #readUpTo(head: TreeHead): Promise<LogEntry[]> {
    const entries: LogEntry[] = [];
    while (this.size < head.size) {
      const page = await this.#store.read(this.size, Math.min(pageEntries, head.size - this.size));
      if (page.length === 0) break;
      entries.push(...page.map(fromStored));
      for (const { leaf } of page) this.#tree.append(leafHash(new TextEncoder().encode(leaf)));
    }
    if (this.size !== head.size || !equalBytes(head.root, this.#tree.root()))
      throw new LeafError("the stored log is not the one that was signed last: see `consilium audit verify`");
    return entries;
  }

  #signedHead({ size, note }: StoredCheckpoint): TreeHead {
    let head: TreeHead;
    try {
      head = openCheckpoint(note, this.origin, this.#key.publicKey);
    } catch (cause) {
      throw new LeafError("the latest checkpoint is not signed with this coordinator's key", { cause });
    }
    if (head.size !== size) throw new LeafError("the latest checkpoint is not the one that was stored");
    return head;
  }

  #adopt(entries: readonly LogEntry[], state: FederationState, note: string): void {
    this.#state = state;
    this.#checkpoint = note;
    for (const entry of entries) for (const listener of this.#listeners) listener(entry);
  }

  #sign(): string {
    return signCheckpoint({ origin: this.origin, size: this.size, root: this.#tree.root() }, this.#key);
  }

  /** One change at a time within the process; between processes the database decides. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work, work);
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

function unsigned(): LeafError {
  return new LeafError("the stored log has entries that nobody signed: see `consilium audit verify`");
}

/** Of several changes to one row only the last is written. */
function latest(changes: readonly RowChange[]): RowChange[] {
  const rows = new Map(
    changes.map((change) => [`${change.table} ${rowKey(change.table, change.row)}`, change]),
  );
  return [...rows.values()];
}
