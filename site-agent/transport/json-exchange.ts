// Requests whose answer is JSON: what comes back is parsed by its schema or refused. Coordinator-controlled bytes are
// bounded before they are parsed.

import { jsonBodyBytesMax } from "@consilium/shared/protocol/limits.ts";
import type { Static, TSchema } from "typebox";
import { Value } from "typebox/value";
import { type Exchange, exchangeWhole, type Request } from "./exchange.ts";
import { TransportError } from "./transport-error.ts";

export type JsonRequest = Omit<Request, "body"> & { readonly json?: unknown };

/** @throws ProtocolError, TransportError */
export async function exchangeJson<S extends TSchema>(
  port: Exchange,
  schema: S,
  { json, headers, ...request }: JsonRequest,
): Promise<Static<S>> {
  const sends = json === undefined ? {} : { body: new TextEncoder().encode(JSON.stringify(json)) };
  const type = json === undefined ? {} : { "Content-Type": "application/json" };
  const { body } = await exchangeWhole(
    port,
    { ...request, ...sends, headers: { Accept: "application/json", ...type, ...headers } },
    jsonBodyBytesMax,
  );
  const value = parsedJson(body);
  if (!Value.Check(schema, value)) throw new TransportError("transport.answer-malformed");
  return value;
}

function parsedJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (cause) {
    throw new TransportError("transport.answer-malformed", { cause });
  }
}
