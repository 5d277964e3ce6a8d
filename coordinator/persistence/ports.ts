// What the coordinator asks of a database. Every implementation passes the contract suite in test/contract.

import type { SiteId } from "@consilium/shared/base/brand.ts";
import type { RowChange, Tables } from "./projection.ts";

/** One leaf as it is stored: `leaf` is the canonical JSON text of a log entry, `leafHash` its RFC 6962 hash. */
export type StoredEntry = {
  readonly index: number;
  readonly kind: string;
  readonly study: string | null;
  readonly leaf: string;
  readonly leafHash: Uint8Array;
};

/** `number` counts the checkpoints from 0 without gaps. */
export type StoredCheckpoint = { readonly size: number; readonly number: number; readonly note: string };

/** Another process appended first: read what it wrote and decide again. */
export class LogConflictError extends Error {
  override name = "LogConflictError";
  readonly code = "log.conflict";
}

export type Append = {
  readonly entries: readonly StoredEntry[];
  readonly checkpoint: Omit<StoredCheckpoint, "number">;
  readonly changes: readonly RowChange[];
};

export type LogStore = {
  /** Number of entries. */
  size(): Promise<number>;
  /** Entries from `from` on, in order, at most `limit`. */
  read(from: number, limit: number): Promise<StoredEntry[]>;
  /**
   * Entries, their checkpoint and the rows they change, all or nothing. Durable when the promise resolves.
   * MUST NOT overwrite an entry.
   * @throws LogConflictError when the first index is not the log's size
   */
  append(append: Append): Promise<void>;
  latestCheckpoint(): Promise<StoredCheckpoint | null>;
  checkpoints(): Promise<StoredCheckpoint[]>;
  /** All projections, for comparison with the fold. */
  tables(): Promise<Tables>;
};

export type SessionStore = {
  saveChallenge(challenge: string, site: SiteId, expiresAtMs: number): Promise<void>;
  /** The site that the challenge was given to, once; null when it is unknown, used or expired. */
  takeChallenge(challenge: string, nowMs: number): Promise<SiteId | null>;
  saveSession(tokenSha256: string, site: SiteId, expiresAtMs: number): Promise<void>;
  findSession(tokenSha256: string, nowMs: number): Promise<SiteId | null>;
  /** Forget what has expired. */
  sweep(nowMs: number): Promise<void>;
};
