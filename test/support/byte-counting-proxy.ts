// A TCP proxy that counts and keeps every byte of the client's side, and can cut all connections after a number of
// bytes. It understands nothing of what passes.

import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

export class ByteCountingProxy {
  /** What each connection's client has sent, in order of connection. */
  readonly streams: Buffer[][] = [];
  /** Cut the connection as soon as its client has sent this many bytes. */
  cutAfterBytes = Number.POSITIVE_INFINITY;
  /** Cut the connection as soon as its server has sent this many bytes. */
  cutAnswerAfterBytes = Number.POSITIVE_INFINITY;
  readonly #server: Server;
  readonly #targetPort: () => number;
  readonly #sockets = new Set<Socket>();

  constructor(targetPort: () => number) {
    this.#targetPort = targetPort;
    this.#server = createServer((client) => this.#join(client));
  }

  async start(): Promise<void> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port; // A TCP server that listens has a port.
  }

  /** All connections together. */
  get bytesSeen(): number {
    return this.streams.flat().reduce((sum, chunk) => sum + chunk.length, 0);
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #join(client: Socket): void {
    const stream: Buffer[] = [];
    this.streams.push(stream);
    const server = connect(this.#targetPort(), "127.0.0.1");
    let sent = 0;
    let answered = 0;
    const cut = (): void => {
      client.destroy();
      server.destroy();
    };
    client.on("data", (chunk: Buffer) => {
      stream.push(chunk);
      const passing = chunk.subarray(0, Math.max(0, this.cutAfterBytes - sent));
      sent += chunk.length;
      if (sent < this.cutAfterBytes) return server.write(chunk);
      client.destroy();
      return server.end(passing);
    });
    server.on("data", (chunk: Buffer) => {
      const passing = chunk.subarray(0, Math.max(0, this.cutAnswerAfterBytes - answered));
      answered += chunk.length;
      if (answered < this.cutAnswerAfterBytes) return client.write(chunk);
      server.destroy();
      return client.end(passing);
    });
    client.on("end", () => server.end());
    server.on("end", () => client.end());
    for (const socket of [client, server]) {
      this.#sockets.add(socket);
      socket.on("error", cut);
      socket.on("close", () => this.#sockets.delete(socket));
    }
  }
}
