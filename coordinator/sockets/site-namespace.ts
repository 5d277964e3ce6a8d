// The sites' control channel: socket.io namespace `/sites`. Small frames, acknowledged, idempotent, rate-limited; who
// speaks is known from the session token and never from a message.

import type { SiteId } from "@consilium/shared/base/brand.ts";
import type { Clock } from "@consilium/shared/base/clock.ts";
import { minuteMs } from "@consilium/shared/base/units.ts";
import { ProtocolError, type ProtocolErrorCode } from "@consilium/shared/protocol/errors.ts";
import {
  type FrameAcknowledgement,
  SiteFrame,
  type ToCoordinator,
  type ToSite,
} from "@consilium/shared/protocol/messages.ts";
import type { Namespace, Server, Socket } from "socket.io";
import { Value } from "typebox/value";
import type { Logger } from "../logger.ts";
import type { SiteSessions } from "../sites/site-sessions.ts";

/** Frames that one connection may send in a minute; progress is at most one a second. */
const framesPerMinuteMax = 600;
/** Frames of one connection that wait to be handled. */
const framesWaitingMax = 64;

export type SiteNamespacePorts = {
  readonly sessions: SiteSessions;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly checkpoint: () => string;
  readonly receive: (site: SiteId, message: ToCoordinator) => Promise<void>;
  readonly onProgress: (site: SiteId, message: Extract<ToCoordinator, { kind: "progress" }>) => void;
  readonly onPresence: (site: SiteId, connected: boolean) => void;
};

type Connection = {
  readonly site: SiteId;
  seq: number;
  windowStartMs: number;
  framesInWindow: number;
  waiting: number;
};

export class SiteNamespace {
  readonly #namespace: Namespace;
  readonly #ports: SiteNamespacePorts;
  readonly #connections = new Map<Socket, Connection>();

  constructor(server: Server, ports: SiteNamespacePorts) {
    this.#ports = ports;
    this.#namespace = server.of("/sites");
    this.#namespace.use((socket, next) => {
      this.#admit(socket).then(() => next(), next);
    });
    this.#namespace.on("connection", (socket) => this.#onConnection(socket));
  }

  /** Best effort to every connection of the site. */
  send(site: SiteId, message: ToSite): void {
    for (const [socket, connection] of this.#connections) {
      if (connection.site !== site) continue;
      socket.emit("message", { seq: connection.seq, message });
      connection.seq += 1;
    }
  }

  isConnected(site: string): boolean {
    return [...this.#connections.values()].some((connection) => connection.site === site);
  }

  disconnect(site: SiteId): void {
    for (const [socket, connection] of this.#connections)
      if (connection.site === site) socket.disconnect(true);
  }

  async #admit(socket: Socket): Promise<void> {
    const { token } = socket.handshake.auth as { token?: unknown }; // Site-controlled: used only if it is text.
    if (typeof token !== "string") throw refusal("auth.missing");
    try {
      const { site } = await this.#ports.sessions.authenticate(token);
      socket.data.site = site;
    } catch (error) {
      throw refusal(error instanceof ProtocolError ? error.code : "internal");
    }
  }

  #onConnection(socket: Socket): void {
    const { site } = socket.data as { site: SiteId }; // Set by the middleware that admitted the socket.
    const connection = {
      site,
      seq: 0,
      windowStartMs: this.#ports.clock.nowMs(),
      framesInWindow: 0,
      waiting: 0,
    };
    this.#connections.set(socket, connection);
    socket.once("disconnect", () => this.#forget(socket));
    this.#ports.onPresence(connection.site, true);
    socket.on("message", (frame: unknown, acknowledge: unknown) =>
      this.#onFrame(socket, connection, { frame, acknowledge }),
    );
  }

  #onFrame(
    socket: Socket,
    connection: Connection,
    { frame, acknowledge }: { frame: unknown; acknowledge: unknown },
  ): void {
    const answer = (answer: FrameAcknowledgement): void => {
      if (typeof acknowledge === "function") acknowledge(answer);
    };
    if (this.#isTooFast(connection)) {
      answer({ ok: false, code: "request.rate-limited" });
      socket.disconnect(true);
      return;
    }
    if (!Value.Check(SiteFrame, frame)) {
      answer({ ok: false, code: "request.malformed" });
      return;
    }
    if (frame.message.kind === "progress") this.#ports.onProgress(connection.site, frame.message);
    connection.waiting += 1;
    this.#ports
      .receive(connection.site, frame.message)
      .then(() => answer({ ok: true, checkpoint: this.#ports.checkpoint() }))
      .catch((error: unknown) => answer({ ok: false, code: this.#codeOf(error) }))
      .finally(() => {
        connection.waiting -= 1;
      });
  }

  #codeOf(error: unknown): ProtocolErrorCode {
    if (error instanceof ProtocolError) return error.code;
    this.#ports.logger.error({ err: error }, "a message of a site could not be handled");
    return "internal";
  }

  #isTooFast(connection: Connection): boolean {
    const nowMs = this.#ports.clock.nowMs();
    if (nowMs - connection.windowStartMs > minuteMs)
      Object.assign(connection, { windowStartMs: nowMs, framesInWindow: 0 });
    connection.framesInWindow += 1;
    return connection.framesInWindow > framesPerMinuteMax || connection.waiting >= framesWaitingMax;
  }

  #forget(socket: Socket): void {
    const connection = this.#connections.get(socket);
    this.#connections.delete(socket);
    if (connection && !this.isConnected(connection.site)) this.#ports.onPresence(connection.site, false);
  }
}

/** socket.io hands the message of the error to the client's `connect_error`. */
function refusal(code: ProtocolErrorCode): Error {
  return new Error(code);
}
