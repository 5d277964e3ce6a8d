// One HTTP request to the coordinator and its answer: entered in the ledger before it is sent, given up when nothing
// moves, read up to a bound. It knows no route and keeps no state; redirects are not followed.

import { type IncomingHttpHeaders, type IncomingMessage, request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { secondMs } from "@consilium/shared/base/units.ts";
import { isProtocolErrorCode, ProtocolError } from "@consilium/shared/protocol/errors.ts";
import { Problem } from "@consilium/shared/protocol/http.ts";
import { Value } from "typebox/value";
import type { OutboundBook } from "./ledger.ts";
import { TransportError, transportError } from "./transport-error.ts";
import type { Wire } from "./wire.ts";

/** A connection on which nothing moves for this long is given up; a slow one is not. */
export const noProgressMsMax = 30 * secondMs;
const problemBytesMax = 16 * 1024;

export type Exchange = {
  readonly wire: Wire;
  readonly book: OutboundBook;
  readonly noProgressMs?: number;
};

export type Request = {
  readonly method: "GET" | "HEAD" | "POST" | "PATCH";
  /** Below the coordinator's address, from the slash on. */
  readonly path: string;
  /** What the ledger calls it. */
  readonly message: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  readonly signal?: AbortSignal | undefined;
};

export type Answer = { readonly status: number; readonly headers: IncomingHttpHeaders };

/**
 * Send a request and hand over the answer's body piece by piece.
 * @throws ProtocolError for a problem document (RFC 9457), TransportError for everything else that is no success.
 */
export async function exchange(
  { wire, book, noProgressMs = noProgressMsMax }: Exchange,
  request: Request,
  onBody: (chunks: AsyncIterable<Uint8Array>, answer: Answer) => Promise<void>,
): Promise<Answer> {
  const payload = request.body ?? new Uint8Array(0);
  await book.book({ channel: "http", message: request.message, payload });
  let response: IncomingMessage | undefined;
  try {
    response = await sent(wire, request, noProgressMs);
    const answer = { status: response.statusCode ?? 0, headers: response.headers };
    if (answer.status < 200 || answer.status > 299) throw await refusal(response, request.method);
    await onBody(response, answer);
    response.resume(); // What was not asked for is let go of, so that the connection can serve again.
    return answer;
  } catch (error) {
    response?.destroy();
    if (request.signal?.aborted) throw new TransportError("transport.aborted", { cause: error });
    throw error instanceof ProtocolError || !isSystemError(error) ? error : transportError(error);
  }
}

/** The whole answer in memory. @throws as `exchange`, and TransportError `transport.answer-too-large`. */
export async function exchangeWhole(
  port: Exchange,
  request: Request,
  bytesMax: number,
): Promise<Answer & { readonly body: Uint8Array }> {
  let body: Uint8Array = new Uint8Array(0);
  const answer = await exchange(port, request, async (chunks) => {
    body = await collected(chunks, bytesMax);
  });
  return { ...answer, body };
}

function sent(wire: Wire, request: Request, noProgressMs: number): Promise<IncomingMessage> {
  const { base, agent } = wire;
  const body = request.body;
  const start = base.protocol === "https:" ? requestHttps : requestHttp;
  return new Promise((resolve, reject) => {
    const outgoing = start({
      protocol: base.protocol,
      hostname: base.hostname,
      port: base.port,
      path: `${base.pathname.replace(/\/$/, "")}${request.path}`,
      method: request.method,
      agent,
      timeout: noProgressMs,
      headers: { ...request.headers, ...(body && { "Content-Length": String(body.length) }) },
      ...(request.signal && { signal: request.signal }),
    });
    const onTimeout = (): void => void outgoing.destroy(new TransportError("transport.no-progress"));
    outgoing.once("timeout", onTimeout);
    outgoing.once("error", reject);
    outgoing.once("response", (response) => {
      // A fault from here on reaches whoever reads the answer.
      outgoing.removeListener("error", reject);
      outgoing.on("error", (error) => response.destroy(error));
      resolve(response);
    });
    outgoing.end(body);
  });
}

async function collected(chunks: AsyncIterable<Uint8Array>, bytesMax: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > bytesMax) throw new TransportError("transport.answer-too-large");
    parts.push(chunk);
  }
  return Buffer.concat(parts);
}

/** Coordinator-controlled: only a code of the catalogue is taken from it. */
async function refusal(response: IncomingMessage, method: Request["method"]): Promise<Error> {
  if (method === "HEAD" && response.statusCode === 401) return new ProtocolError("auth.refused"); // It has no body.
  const body = await collected(response, problemBytesMax);
  try {
    const problem: unknown = JSON.parse(new TextDecoder().decode(body));
    if (Value.Check(Problem, problem) && isProtocolErrorCode(problem.code))
      return new ProtocolError(problem.code);
  } catch {
    // Not JSON: a proxy on the way, or no coordinator at all.
  }
  const isPassing = response.statusCode === 502 || response.statusCode === 503 || response.statusCode === 504;
  return new TransportError(isPassing ? "transport.unreachable" : "transport.answer-malformed");
}

/** Faults of sockets and of OpenSSL carry a code in capitals. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && "code" in error && /^[A-Z0-9_]+$/.test(String(error.code));
}
