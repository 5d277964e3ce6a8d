// The ports in memory, for tests and simulation. Durable for as long as the process is.

import type { SiteId } from "@consilium/shared/base/brand.ts";
import {
  type Append,
  LogConflictError,
  type LogStore,
  type SessionStore,
  type StoredCheckpoint,
  type StoredEntry,
} from "./ports.ts";
import { emptyTables, rowKey, type Tables } from "./projection.ts";

export class MemoryLogStore implements LogStore {
  readonly #entries: StoredEntry[] = [];
  readonly #checkpoints: StoredCheckpoint[] = [];
  readonly #tables = emptyTables();

  async size(): Promise<number> {
    return this.#entries.length;
  }

  async read(from: number, limit: number): Promise<StoredEntry[]> {
    return this.#entries.slice(from, from + limit);
  }

  async append({ entries, checkpoint, changes }: Append): Promise<void> {
    if (entries[0]?.index !== this.#entries.length) throw new LogConflictError("another writer was first");
    this.#entries.push(...entries);
    this.#checkpoints.push({ ...checkpoint, number: this.#checkpoints.length });
    for (const { table, row } of changes) this.#tables[table].set(rowKey(table, row), row);
  }

  async latestCheckpoint(): Promise<StoredCheckpoint | null> {
    return this.#checkpoints.at(-1) ?? null;
  }

  async checkpoints(): Promise<StoredCheckpoint[]> {
    return [...this.#checkpoints];
  }

  async tables(): Promise<Tables> {
    return this.#tables;
  }
}

type Ephemeral = { readonly site: SiteId; readonly expiresAtMs: number };

export class MemorySessionStore implements SessionStore {
  readonly #challenges = new Map<string, Ephemeral>();
  readonly #sessions = new Map<string, Ephemeral>();

  async saveChallenge(challenge: string, site: SiteId, expiresAtMs: number): Promise<void> {
    this.#challenges.set(challenge, { site, expiresAtMs });
  }

  async takeChallenge(challenge: string, nowMs: number): Promise<SiteId | null> {
    const found = this.#challenges.get(challenge);
    this.#challenges.delete(challenge);
    return found && found.expiresAtMs > nowMs ? found.site : null;
  }

  async saveSession(tokenSha256: string, site: SiteId, expiresAtMs: number): Promise<void> {
    this.#sessions.set(tokenSha256, { site, expiresAtMs });
  }

  async findSession(tokenSha256: string, nowMs: number): Promise<SiteId | null> {
    const found = this.#sessions.get(tokenSha256);
    return found && found.expiresAtMs > nowMs ? found.site : null;
  }

  async sweep(nowMs: number): Promise<void> {
    for (const store of [this.#challenges, this.#sessions]) {
      for (const [key, { expiresAtMs }] of store) if (expiresAtMs <= nowMs) store.delete(key);
    }
  }
}
