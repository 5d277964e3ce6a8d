// The one place where connections to the coordinator are made. Requests and the websocket share its agent, and every
// byte that a connection carries, encryption included, is counted at its TCP socket. It refuses other hosts.

import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { TransportError } from "./transport-error.ts";

/** Requests at the same time; the websocket has a connection of its own beside them. */
const connectionsMax = 8;

export type WireOptions = {
  readonly base: URL;
  /** Certificate authorities in PEM, instead of those that Node brings. */
  readonly ca?: string;
  /** The explicit wish to speak without encryption to another machine. */
  readonly insecureHttp: boolean;
};

export class Wire {
  readonly base: URL;
  readonly agent: HttpAgent | HttpsAgent;
  readonly #meter = new SocketMeter();

  /** @throws TransportError `transport.insecure` */
  constructor({ base, ca, insecureHttp }: WireOptions) {
    const isEncrypted = base.protocol === "https:";
    if (!isEncrypted && !insecureHttp && !isLoopback(base.hostname)) {
      throw new TransportError("transport.insecure");
    }
    this.base = base;
    const options = { keepAlive: true, maxSockets: connectionsMax };
    const target = { host: withoutBrackets(base.hostname), port: portOf(base) };
    this.agent = isEncrypted
      ? new CountedHttpsAgent({ ...options, ...(ca !== undefined && { ca }) }, target, this.#meter)
      : new CountedHttpAgent(options, target, this.#meter);
  }

  /** Bytes that all connections have carried so far. */
  get sentBytes(): number {
    return this.#meter.sentBytes;
  }

  get connections(): number {
    return this.#meter.connections;
  }

  /** Ends every connection, refuses new ones, and waits until all are closed, so that the count is final. */
  async close(): Promise<void> {
    this.#meter.isClosing = true;
    this.agent.destroy();
    await this.#meter.closed();
  }
}

type Target = { readonly host: string; readonly port: number };

class SocketMeter {
  connections = 0;
  isClosing = false;
  readonly #open = new Set<Socket>();
  #closedBytes = 0;
  #whenClosed: (() => void)[] = [];

  get sentBytes(): number {
    return [...this.#open].reduce((sum, socket) => sum + socket.bytesWritten, this.#closedBytes);
  }

  /** @throws TransportError `transport.aborted` once the wire is being closed */
  connect({ host, port }: Target): Socket {
    if (this.isClosing) throw new TransportError("transport.aborted");
    const socket = connectTcp({ host, port, noDelay: true });
    this.connections += 1;
    this.#open.add(socket);
    socket.once("close", () => {
      this.#open.delete(socket);
      this.#closedBytes += socket.bytesWritten;
      if (this.#open.size > 0) return;
      for (const resolve of this.#whenClosed.splice(0)) resolve();
    });
    return socket;
  }

  async closed(): Promise<void> {
    for (const socket of this.#open) socket.destroySoon();
    if (this.#open.size > 0) await new Promise<void>((resolve) => this.#whenClosed.push(resolve));
  }
}

class CountedHttpAgent extends HttpAgent {
  readonly #target: Target;
  readonly #meter: SocketMeter;
  constructor(options: ConstructorParameters<typeof HttpAgent>[0], target: Target, meter: SocketMeter) {
    super(options);
    this.#target = target;
    this.#meter = meter;
  }

  override createConnection(): Socket {
    return this.#meter.connect(this.#target);
  }
}

class CountedHttpsAgent extends HttpsAgent {
  readonly #target: Target;
  readonly #meter: SocketMeter;
  constructor(options: ConstructorParameters<typeof HttpsAgent>[0], target: Target, meter: SocketMeter) {
    super(options);
    this.#target = target;
    this.#meter = meter;
  }

  override createConnection(): Socket {
    const { host } = this.#target;
    const socket = this.#meter.connect(this.#target);
    const servername = isIP(host) === 0 ? host : "";
    const { ca } = this.options;
    return connectTls({ ...(ca && { ca }), host, servername, socket, ALPNProtocols: ["http/1.1"] });
  }
}

/** The machine itself: what is said there passes no network. */
export function isLoopback(hostname: string): boolean {
  const host = withoutBrackets(hostname);
  return host === "localhost" || host === "::1" || /^127(\.[0-9]{1,3}){3}$/.test(host);
}

function withoutBrackets(hostname: string): string {
  return hostname.replace(/^\[(.*)\]$/, "$1");
}

function portOf(base: URL): number {
  if (base.port !== "") return Number(base.port);
  return base.protocol === "https:" ? 443 : 80;
}
