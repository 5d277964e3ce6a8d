// The site's session with the coordinator: a challenge signed with the site's key buys a token, which is used until it
// is refused. Tokens live in memory only and are never logged.

import type { SiteId } from "@consilium/shared/base/brand.ts";
import { seal } from "@consilium/shared/crypto/envelope.ts";
import type { SigningKey } from "@consilium/shared/crypto/keys.ts";
import { SessionDocument } from "@consilium/shared/protocol/documents.ts";
import { ChallengeAnswer, SessionAnswer } from "@consilium/shared/protocol/http.ts";
import type { Exchange } from "./exchange.ts";
import { exchangeJson } from "./json-exchange.ts";

/** Who speaks, for whom, with which key. */
export type SiteIdentity = { readonly site: SiteId; readonly origin: string; readonly key: SigningKey };

export class Session {
  readonly #port: Exchange;
  readonly #identity: SiteIdentity;
  #token: Promise<string> | null = null;

  constructor(port: Exchange, identity: SiteIdentity) {
    this.#port = port;
    this.#identity = identity;
  }

  /** The current token, or a new one. @throws ProtocolError, TransportError */
  token(): Promise<string> {
    this.#token ??= this.#begin().catch((error: unknown) => {
      this.#token = null;
      throw error;
    });
    return this.#token;
  }

  /** The token was refused; the next call asks for a new one, unless that has happened already. */
  async forget(token: string): Promise<void> {
    const current = await this.#token?.catch(() => null);
    if (current === token) this.#token = null;
  }

  async #begin(): Promise<string> {
    const { site, origin, key } = this.#identity;
    const { challenge } = await exchangeJson(this.#port, ChallengeAnswer, {
      method: "POST",
      path: "/v1/challenges",
      message: "challenge.request",
      json: { site },
    });
    const { token } = await exchangeJson(this.#port, SessionAnswer, {
      method: "POST",
      path: "/v1/sessions",
      message: "session.request",
      json: { envelope: seal(SessionDocument, { origin, site, challenge }, key) },
    });
    return token;
  }
}
