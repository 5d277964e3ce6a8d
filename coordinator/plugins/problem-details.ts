// Every error leaves as an RFC 9457 problem document with a code of the catalogue. What the request said is never
// repeated, and what went wrong inside is only in the log, under the correlation id.

import { errorCatalogue, ProtocolError, type ProtocolErrorCode } from "@consilium/shared/protocol/errors.ts";
import type { Problem } from "@consilium/shared/protocol/http.ts";
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Logger } from "../logger.ts";

const problemType = "https://consilium.invalid/problems/";
const faultsListedMax = 50;

export function registerProblemDetails(app: FastifyInstance, logger: Logger): void {
  app.setErrorHandler((error: FastifyError, request, reply) => answer(error, request, { reply, logger }));
  app.setNotFoundHandler((request, reply) => send(reply, problem("route.unknown", request.id)));
}

function answer(
  error: FastifyError,
  request: FastifyRequest,
  { reply, logger }: { reply: FastifyReply; logger: Logger },
) {
  const { code, details } = coded(error);
  if (code === "internal") logger.error({ err: error, correlation: request.id }, "a request failed");
  return send(reply, {
    ...problem(code, request.id),
    ...(details.length > 0 ? { errors: [...details] } : {}),
  });
}

function coded(error: FastifyError): { code: ProtocolErrorCode; details: readonly string[] } {
  if (error instanceof ProtocolError) return error;
  if (error.validation) {
    const faults = error.validation.map(
      (fault) => `${fault.instancePath || "/"} ${fault.message ?? "is not valid"}`,
    );
    return { code: "request.malformed", details: faults.slice(0, faultsListedMax) };
  }
  if (error.statusCode === 413) return { code: "request.too-large", details: [] };
  if (error.statusCode === 429) return { code: "request.rate-limited", details: [] };
  if (error.statusCode && error.statusCode < 500) return { code: "request.malformed", details: [] };
  return { code: "internal", details: [] };
}

function problem(code: ProtocolErrorCode, correlation: string): Problem {
  const { status, retryable, sentence } = errorCatalogue[code];
  return { type: `${problemType}${code}`, title: sentence, status, code, retryable, correlation };
}

function send(reply: FastifyReply, body: Problem): FastifyReply {
  return reply
    .code(body.status)
    .header("content-type", "application/problem+json")
    .send(JSON.stringify(body));
}
