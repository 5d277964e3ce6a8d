// A coordinator small enough to read, for tests of the site: real keys, documents, challenges, log and checkpoints over
// a real HTTP server and socket. It keeps everything in memory and runs no study by itself: the test says what is owed.

import { createHash } from "node:crypto";
import { once } from "node:events";
import {
  createServer as createHttpServer,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { type PublicKey, type SiteId, sha256, siteId } from "@consilium/shared/base/brand.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import { claimedSigner, type Envelope, openEnvelope } from "@consilium/shared/crypto/envelope.ts";
import { type SigningKey, signingKeyFromSeed } from "@consilium/shared/crypto/keys.ts";
import { toBase64, toBase64Url } from "@consilium/shared/encoding/base64url.ts";
import { canonicalJsonText } from "@consilium/shared/encoding/canonical-json.ts";
import { EnrolmentDocument, SessionDocument } from "@consilium/shared/protocol/documents.ts";
import { ProtocolError, type ProtocolErrorCode } from "@consilium/shared/protocol/errors.ts";
import { EnrolmentBody, invitationTokenPrefix, SessionBody } from "@consilium/shared/protocol/http.ts";
import { type CoordinatorFrame, SiteFrame, type ToSite } from "@consilium/shared/protocol/messages.ts";
import { type Socket, Server as SocketServer } from "socket.io";
import type { Static, TSchema } from "typebox";
import { Value } from "typebox/value";
import { BlobShelf, sendProblem } from "./blob-shelf.ts";
import { StudyScript } from "./study-script.ts";
import { TransparencyLog } from "./transparency-log.ts";

const bodyBytesMax = 2 ** 20;

export type HonestOptions = {
  readonly seed?: number;
  /** PEM key and certificate; plain HTTP without. */
  readonly tls?: { readonly key: string; readonly cert: string };
};

export class HonestCoordinator {
  readonly origin = "consilium.test/honest";
  readonly key: SigningKey;
  readonly log: TransparencyLog;
  readonly blobs = new BlobShelf();
  readonly study: StudyScript;
  readonly plans = new Map<string, Envelope>();
  readonly versions = new Map<string, Envelope>();
  /** Every request line that was answered or cut. */
  readonly requests: string[] = [];
  /** Called before a request is answered; a code refuses it, "cut" drops the connection. */
  interfere: (request: IncomingMessage) => ProtocolErrorCode | "cut" | null = () => null;
  /** Called before a frame is looked at; "cut" hangs up without an acknowledgement. */
  interfereSocket: (kind: string) => "cut" | null = () => null;
  readonly #prng: Prng;
  readonly #server: Server;
  readonly #io: SocketServer;
  readonly #invitations = new Map<string, SiteId>();
  readonly #keys = new Map<SiteId, PublicKey>();
  readonly #challenges = new Map<string, SiteId>();
  readonly #tokens = new Map<string, SiteId>();
  readonly #sockets = new Map<SiteId, { socket: Socket; seq: number }>();
  #watchers: (() => void)[] = [];

  constructor({ seed = 1, tls }: HonestOptions = {}) {
    this.#prng = new Prng(seed);
    this.key = signingKeyFromSeed(this.#random());
    this.log = new TransparencyLog(this.origin, this.key);
    this.log.append("opened");
    this.study = new StudyScript(this.log, this.blobs);
    const answer = (request: IncomingMessage, response: ServerResponse): void =>
      void this.#answer(request, response);
    this.#server = tls ? createHttpsServer(tls, answer) : createHttpServer(answer);
    this.#io = new SocketServer(this.#server, { transports: ["websocket"] });
    this.#listenToSites();
  }

  async start(port = 0): Promise<void> {
    this.#server.listen(port, "127.0.0.1");
    await once(this.#server, "listening");
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await this.#io.close();
  }

  get port(): number {
    const address = this.#server.address();
    return (address as AddressInfo).port; // A TCP server that listens has a port.
  }

  get isEncrypted(): boolean {
    return this.#server instanceof Object && "setSecureContext" in this.#server;
  }

  url(port: number = this.port): string {
    return `${this.isEncrypted ? "https" : "http"}://127.0.0.1:${port}`;
  }

  /** An invitation, to be used once. */
  invite(site: string, url: string = this.url()): string {
    const secret = toBase64Url(this.#random());
    this.#invitations.set(secret, siteId(site));
    const token = {
      url,
      origin: this.origin,
      coordinatorKey: this.key.publicKey,
      site,
      secret,
      expiresAtMs: Number.MAX_SAFE_INTEGER,
    };
    return invitationTokenPrefix + toBase64Url(new TextEncoder().encode(canonicalJsonText(token)));
  }

  /** Enrol a key directly. */
  admit(site: SiteId, key: PublicKey): void {
    this.#keys.set(site, key);
  }

  /** Every token stops working. */
  forgetSessions(): void {
    this.#tokens.clear();
  }

  push(site: SiteId, message: ToSite): void {
    const connection = this.#sockets.get(site);
    if (!connection) return;
    const frame: CoordinatorFrame = { seq: connection.seq, message };
    connection.seq += 1;
    connection.socket.emit("message", frame);
  }

  /** A message that is numbered and lost. */
  lose(site: SiteId): void {
    const connection = this.#sockets.get(site);
    if (connection) connection.seq += 1;
  }

  /** Send anything at all to a site. */
  pushRaw(site: SiteId, value: unknown): void {
    this.#sockets.get(site)?.socket.emit("message", value);
  }

  hangUp(site: SiteId): void {
    this.#sockets.get(site)?.socket.conn.close();
  }

  isConnected(site: SiteId): boolean {
    return this.#sockets.has(site);
  }

  /** Resolves as soon as the condition holds; it is looked at after everything that happens. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#watchers.push(resolve));
  }

  #happened(): void {
    for (const wake of this.#watchers.splice(0)) wake();
  }

  #random(): Uint8Array {
    return Uint8Array.from({ length: 32 }, () => this.#prng.int(0, 255));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.requests.push(`${request.method} ${request.url}`);
    const interference = this.interfere(request);
    try {
      if (interference === "cut") request.socket.destroy();
      else if (interference) sendProblem(response, interference);
      else await this.#route(request, response);
    } catch (error) {
      if (error instanceof ProtocolError) sendProblem(response, error.code);
      else if (!response.headersSent) sendProblem(response, "request.malformed");
    }
    this.#happened();
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? "/", "http://coordinator");
    const [, , collection, name = "", leaf] = url.pathname.split("/");
    const json = (value: unknown, status = 200): void => {
      response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(value));
    };
    if (collection === "federation") {
      return json({ origin: this.origin, coordinatorKey: this.key.publicKey, protocolVersions: [1] });
    }
    if (collection === "enrolments") return json(this.#enrol(await bodyOf(request, EnrolmentBody)), 201);
    if (collection === "challenges") return json(this.#challenge(siteId((await anyBody(request)).site)));
    if (collection === "sessions") return json(this.#beginSession(await bodyOf(request, SessionBody)));
    const token = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
    if (token === undefined) throw new ProtocolError("auth.missing");
    if (!this.#tokens.has(token)) throw new ProtocolError("auth.refused");
    if (collection === "studies" && leaf === "plan") {
      const envelope = this.plans.get(name);
      if (!envelope) throw new ProtocolError("study.unknown");
      return json({ envelope });
    }
    if (collection === "versions") {
      const envelope = this.versions.get(name);
      if (!envelope) throw new ProtocolError("version.unknown");
      return json({ envelope });
    }
    if (collection === "blobs") return this.blobs.serve(request, response, name);
    if (collection === "uploads" && request.method === "HEAD") return this.blobs.look(response, name);
    if (collection === "uploads") return this.blobs.take(request, response, name);
    if (collection === "audit" && name === "checkpoint") return json({ checkpoint: this.log.checkpoint() });
    if (collection === "audit" && name === "consistency") {
      const [from, to] = [Number(url.searchParams.get("from")), Number(url.searchParams.get("to"))];
      const proof = this.log.consistency(from, to);
      if (!proof) throw new ProtocolError("proof.out-of-range");
      return json({ proof: proof.map(toBase64) });
    }
    throw new ProtocolError("route.unknown");
  }

  #enrol({ secret, envelope }: Static<typeof EnrolmentBody>): unknown {
    const site = this.#invitations.get(secret);
    const request = openEnvelope(EnrolmentDocument, envelope, claimedSigner(envelope));
    const isOurs =
      request.publicKey === claimedSigner(envelope) &&
      request.origin === this.origin &&
      request.site === site &&
      request.invitation === blobDigest(new TextEncoder().encode(secret));
    const known = this.#keys.get(request.site);
    if (!site || !isOurs || (known !== undefined && known !== request.publicKey)) {
      throw new ProtocolError("invitation.refused");
    }
    this.#keys.set(site, request.publicKey);
    return { site, origin: this.origin, coordinatorKey: this.key.publicKey };
  }

  #challenge(site: SiteId): unknown {
    const challenge = createHash("sha256").update(this.#random()).digest("hex");
    this.#challenges.set(challenge, site);
    return { challenge, expiresInMs: 60_000 };
  }

  #beginSession({ envelope }: Static<typeof SessionBody>): unknown {
    const site = [...this.#keys].find(([, key]) => key === claimedSigner(envelope))?.[0];
    if (!site) throw new ProtocolError("site.unknown");
    const request = openEnvelope(SessionDocument, envelope, claimedSigner(envelope));
    const isOurs = request.site === site && this.#challenges.get(sha256(request.challenge)) === site;
    if (!isOurs) throw new ProtocolError("challenge.refused");
    this.#challenges.delete(request.challenge);
    const token = toBase64Url(this.#random());
    this.#tokens.set(token, site);
    return { token, expiresInMs: 3_600_000 };
  }

  #listenToSites(): void {
    const sites = this.#io.of("/sites");
    sites.use((socket, next) => {
      const known = this.#tokens.has(String(socket.handshake.auth["token"]));
      next(known ? undefined : new Error("auth.refused"));
    });
    sites.on("connection", (socket) => {
      const site = this.#tokens.get(String(socket.handshake.auth["token"]));
      if (!site) return;
      this.#sockets.set(site, { socket, seq: 0 });
      socket.on("disconnect", () => {
        if (this.#sockets.get(site)?.socket === socket) this.#sockets.delete(site);
        this.#happened();
      });
      socket.on("message", (frame: unknown, acknowledge: (answer: unknown) => void) => {
        this.#receive(site, frame, acknowledge);
        this.#happened();
      });
      this.#happened();
    });
  }

  #receive(site: SiteId, frame: unknown, acknowledge: (answer: unknown) => void): void {
    const key = this.#keys.get(site);
    if (!Value.Check(SiteFrame, frame) || !key) {
      acknowledge({ ok: false, code: "request.malformed" });
      return;
    }
    if (this.interfereSocket(frame.message.kind) === "cut") {
      this.hangUp(site);
      return;
    }
    const answers = this.study.take(site, key, frame.message);
    acknowledge({ ok: true, checkpoint: this.log.checkpoint() });
    for (const answer of answers) this.push(site, answer);
  }
}

async function anyBody(request: IncomingMessage): Promise<{ site: string }> {
  const body = await textOf(request);
  return JSON.parse(body) as { site: string }; // The one route that needs no more.
}

async function bodyOf<S extends TSchema>(request: IncomingMessage, schema: S): Promise<Static<S>> {
  const value: unknown = JSON.parse(await textOf(request));
  if (!Value.Check(schema, value)) throw new ProtocolError("request.malformed");
  return value;
}

async function textOf(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request) {
    text += chunk;
    if (text.length > bodyBytesMax) throw new ProtocolError("request.too-large");
  }
  return text;
}
