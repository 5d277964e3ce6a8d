// Challenges and session tokens in Postgres, so that a site may speak to any of several coordinators.

import { type SiteId, siteId } from "@consilium/shared/base/brand.ts";
import type { SessionStore } from "./ports.ts";
import type { Database } from "./prisma-client.ts";

export class PrismaSessionStore implements SessionStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async saveChallenge(challenge: string, site: SiteId, expiresAtMs: number): Promise<void> {
    await this.#database.challenge.create({ data: { challenge, site, expiresAtMs } });
  }

  async takeChallenge(challenge: string, nowMs: number): Promise<SiteId | null> {
    // One statement, so that of two requests with the same challenge only one gets it.
    const [taken] = await this.#database.$queryRaw<{ site: string; expires_at_ms: bigint }[]>`
      DELETE FROM challenge WHERE challenge = ${challenge} RETURNING site, expires_at_ms`;
    return taken && Number(taken.expires_at_ms) > nowMs ? siteId(taken.site) : null;
  }

  async saveSession(tokenSha256: string, site: SiteId, expiresAtMs: number): Promise<void> {
    await this.#database.siteSession.create({ data: { tokenSha256, site, expiresAtMs } });
  }

  async findSession(tokenSha256: string, nowMs: number): Promise<SiteId | null> {
    const found = await this.#database.siteSession.findUnique({ where: { tokenSha256 } });
    return found && Number(found.expiresAtMs) > nowMs ? siteId(found.site) : null;
  }

  async sweep(nowMs: number): Promise<void> {
    const expired = { where: { expiresAtMs: { lte: nowMs } } };
    await this.#database.challenge.deleteMany(expired);
    await this.#database.siteSession.deleteMany(expired);
  }
}
