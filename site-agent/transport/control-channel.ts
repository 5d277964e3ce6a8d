// The control channel: small messages over one websocket, entered in the ledger before they leave. It connects again
// by itself, checks every frame by its schema, and promises no delivery: the protocol asks again for what was lost.

import type { Clock } from "@consilium/shared/base/clock.ts";
import type { Prng } from "@consilium/shared/base/prng.ts";
import { minuteMs, secondMs } from "@consilium/shared/base/units.ts";
import { socketMessageBytesMax } from "@consilium/shared/protocol/limits.ts";
import {
  CoordinatorFrame,
  FrameAcknowledgement,
  type SiteFrame,
  type ToCoordinator,
  type ToSite,
} from "@consilium/shared/protocol/messages.ts";
import { io, type Socket } from "socket.io-client";
import { Value } from "typebox/value";
import { backoffMs, reconnectBackoff } from "./backoff.ts";
import type { OutboundBook } from "./ledger.ts";
import type { Pause } from "./patience.ts";
import type { Session } from "./session.ts";
import { TransportError, transportError } from "./transport-error.ts";
import type { Wire } from "./wire.ts";

/** How long a connection may take to come about, and an acknowledgement to come. */
export const handshakeMsMax = 20 * secondMs;
export const acknowledgementMsMax = 20 * secondMs;
/** Frames of the coordinator that are looked at; each may cause an entry in the ledger. The rest is dropped. */
export const framesPerMinuteMax = 600;

export type ChannelListener = {
  onConnected(): void;
  /** `error` says why a connection ended or did not come about. */
  onDisconnected(error: unknown): void;
  onMessage(message: ToSite): void;
  /** The coordinator has sent something that did not arrive. */
  onGap(): void;
  /** The log's signed checkpoint, as every acknowledgement carries it. */
  onCheckpoint(note: string): void;
  /** The coordinator has refused a frame. */
  onRefused(code: string): void;
};

export type ChannelOptions = {
  readonly wire: Wire;
  readonly book: OutboundBook;
  readonly session: Session;
  readonly clock: Clock;
  readonly pause: Pause;
  readonly prng: Prng;
};

export class ControlChannel {
  readonly #options: ChannelOptions;
  readonly #listener: ChannelListener;
  readonly #closing = new AbortController();
  readonly #socket: Socket;
  #token = "";
  #seq = 0;
  #expectedSeq: number | null = null;
  #window = { startMs: Number.NEGATIVE_INFINITY, frames: 0 };
  #running: Promise<void> | null = null;

  constructor(options: ChannelOptions, listener: ChannelListener) {
    this.#options = options;
    this.#listener = listener;
    this.#socket = siteSocket(options.wire, () => ({ token: this.#token }));
    this.#socket.on("message", (frame: unknown) => this.#receive(frame));
  }

  get isConnected(): boolean {
    return this.#socket.connected;
  }

  /** Connect, and connect again until `close`. */
  start(): void {
    this.#running ??= this.#run();
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.#socket.disconnect();
    await this.#running;
  }

  /** Enter and send a message; without a connection nothing happens, and the protocol will come back to it. */
  async send(message: ToCoordinator): Promise<void> {
    if (!this.#socket.connected) return;
    const frame: SiteFrame = { seq: this.#seq, message };
    this.#seq += 1;
    const payload = new TextEncoder().encode(JSON.stringify(frame));
    await this.#options.book.book({ channel: "socket", message: message.kind, payload });
    if (!this.#socket.connected) return;
    this.#socket
      .timeout(acknowledgementMsMax)
      .emit("message", frame, (error: Error | null, answer: unknown) => {
        if (!error) this.#acknowledged(answer);
      });
  }

  async #run(): Promise<void> {
    const { pause, prng } = this.#options;
    const { signal } = this.#closing;
    for (let failures = 0; !signal.aborted; ) {
      let reason: unknown;
      try {
        await this.#connect();
        failures = 0;
        reason = await this.#whileConnected();
      } catch (error) {
        reason = error;
      }
      failures += 1;
      if (signal.aborted) return;
      this.#listener.onDisconnected(reason);
      await pause(backoffMs(failures, prng.next(), reconnectBackoff), signal).catch(() => undefined); // Closing.
    }
  }

  async #connect(): Promise<void> {
    this.#token = await this.#options.session.token();
    const payload = new TextEncoder().encode(JSON.stringify({ token: this.#token }));
    await this.#options.book.book({ channel: "socket", message: "socket.connect", payload });
    if (this.#closing.signal.aborted) throw new TransportError("transport.aborted");
    const outcome = await handshake(this.#socket);
    if (outcome === null) return;
    if (outcome.isRefusal) await this.#options.session.forget(this.#token);
    throw outcome.error;
  }

  async #whileConnected(): Promise<TransportError> {
    this.#seq = 0;
    this.#expectedSeq = null;
    const ended = new Promise<string>((resolve) => this.#socket.once("disconnect", resolve));
    if (this.#closing.signal.aborted) this.#socket.disconnect();
    else this.#listener.onConnected();
    // A coordinator that hangs up on purpose no longer accepts the session.
    if ((await ended) === "io server disconnect") await this.#options.session.forget(this.#token);
    return new TransportError("transport.unreachable");
  }

  /** Coordinator-controlled: bounded by the websocket, parsed here. */
  #receive(value: unknown): void {
    if (this.#isFlooded()) return;
    if (!Value.Check(CoordinatorFrame, value)) {
      this.#listener.onRefused("request.malformed");
      return;
    }
    const isGap = this.#expectedSeq !== null && value.seq !== this.#expectedSeq;
    this.#expectedSeq = value.seq + 1;
    this.#listener.onMessage(value.message);
    if (isGap) this.#listener.onGap();
  }

  #isFlooded(): boolean {
    const nowMs = this.#options.clock.nowMs();
    if (nowMs - this.#window.startMs >= minuteMs) this.#window = { startMs: nowMs, frames: 0 };
    this.#window.frames += 1;
    return this.#window.frames > framesPerMinuteMax;
  }

  #acknowledged(answer: unknown): void {
    if (!Value.Check(FrameAcknowledgement, answer)) this.#listener.onRefused("request.malformed");
    else if (answer.ok) this.#listener.onCheckpoint(answer.checkpoint);
    else this.#listener.onRefused(answer.code);
  }
}

function siteSocket({ base, agent }: Wire, auth: () => { token: string }): Socket {
  const forWs = { agent, perMessageDeflate: false, maxPayload: socketMessageBytesMax };
  return io(`${base.origin}/sites`, {
    ...(forWs as object), // Handed through to ws, whose options the published types know only in part.
    path: `${base.pathname.replace(/\/$/, "")}/socket.io`,
    transports: ["websocket"],
    auth: (give) => give(auth()),
    autoConnect: false,
    forceNew: true,
    reconnection: false,
    timeout: handshakeMsMax,
  });
}

/** Null when connected, else why not; a refusal comes from the coordinator itself. */
function handshake(socket: Socket): Promise<{ error: Error; isRefusal: boolean } | null> {
  return new Promise((resolve) => {
    const onConnect = (): void => {
      socket.off("connect_error", onError);
      resolve(null);
    };
    const onError = (error: Error): void => {
      socket.off("connect", onConnect);
      socket.disconnect();
      const isRefusal = !("type" in error); // engine.io names the type of its own faults; a middleware's have none.
      resolve({ error: transportError(error), isRefusal });
    };
    socket.once("connect", onConnect);
    socket.once("connect_error", onError);
    socket.connect();
  });
}
