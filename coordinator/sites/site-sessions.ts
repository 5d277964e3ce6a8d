// How a site proves who it is: it signs a challenge with the key on record and gets a bearer token for an hour. The
// status of the site is looked at on every use, so suspension works at once.

import { createHash, randomBytes } from "node:crypto";
import { type Sha256, type SiteId, sha256 } from "@consilium/shared/base/brand.ts";
import type { Clock } from "@consilium/shared/base/clock.ts";
import { type Envelope, EnvelopeError, openEnvelope } from "@consilium/shared/crypto/envelope.ts";
import { fromBase64 } from "@consilium/shared/encoding/base64url.ts";
import { SessionDocument } from "@consilium/shared/protocol/documents.ts";
import type { Site } from "@consilium/shared/protocol/enrolment.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import { challengeLifetimeMs, sessionLifetimeMs } from "@consilium/shared/protocol/limits.ts";
import type { AuditLog } from "../audit/audit-log.ts";
import type { SessionStore } from "../persistence/ports.ts";

export class SiteSessions {
  readonly #log: AuditLog;
  readonly #store: SessionStore;
  readonly #clock: Clock;

  constructor({ log, store, clock }: { log: AuditLog; store: SessionStore; clock: Clock }) {
    this.#log = log;
    this.#store = store;
    this.#clock = clock;
  }

  /** Anyone may ask, for any name: the answer does not tell whether the site exists. */
  async challenge(site: SiteId): Promise<{ challenge: Sha256; expiresInMs: number }> {
    const nowMs = this.#clock.nowMs();
    await this.#store.sweep(nowMs);
    await this.#log.refresh();
    const challenge = sha256(randomBytes(32).toString("hex"));
    if (this.#log.state.enrolment.sites.has(site))
      await this.#store.saveChallenge(challenge, site, nowMs + challengeLifetimeMs);
    return { challenge, expiresInMs: challengeLifetimeMs };
  }

  /** @throws ProtocolError challenge.refused, site.not-active */
  async open(envelope: Envelope): Promise<{ token: string; expiresInMs: number }> {
    const nowMs = this.#clock.nowMs();
    const claimed = claimedChallenge(envelope);
    const name = claimed && (await this.#store.takeChallenge(claimed, nowMs));
    await this.#log.refresh();
    const site = name ? this.#log.state.enrolment.sites.get(name) : undefined;
    if (!site) throw new ProtocolError("challenge.refused");
    this.#checkAnswer(envelope, site, claimed);
    if (site.status !== "active") throw new ProtocolError("site.not-active");
    const token = randomBytes(32).toString("base64url");
    await this.#store.saveSession(tokenDigest(token), site.site, nowMs + sessionLifetimeMs);
    return { token, expiresInMs: sessionLifetimeMs };
  }

  /** @throws ProtocolError auth.refused, site.not-active */
  async authenticate(token: string): Promise<Site> {
    const name = await this.#store.findSession(tokenDigest(token), this.#clock.nowMs());
    await this.#log.refresh(); // Another coordinator may have suspended the site.
    const site = name ? this.#log.state.enrolment.sites.get(name) : undefined;
    if (!site) throw new ProtocolError("auth.refused");
    if (site.status !== "active") throw new ProtocolError("site.not-active");
    return site;
  }

  #checkAnswer(envelope: Envelope, site: Site, challenge: string | null): void {
    try {
      const answer = openEnvelope(SessionDocument, envelope, site.publicKey);
      const fits =
        answer.site === site.site && answer.challenge === challenge && answer.origin === this.#log.origin;
      if (!fits) throw new ProtocolError("challenge.refused");
    } catch (cause) {
      if (cause instanceof EnvelopeError) throw new ProtocolError("challenge.refused", [], { cause });
      throw cause;
    }
  }
}

/** Which challenge the answer speaks of; its signature is checked once the site behind the challenge is known. */
function claimedChallenge(envelope: Envelope): string | null {
  try {
    const document: unknown = JSON.parse(Buffer.from(fromBase64(envelope.payload)).toString());
    const { challenge } = document as { challenge?: unknown }; // Site-controlled: only compared and looked up.
    return typeof challenge === "string" && /^[0-9a-f]{64}$/.test(challenge) ? challenge : null;
  } catch {
    return null;
  }
}

function tokenDigest(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}
