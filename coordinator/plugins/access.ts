// Who may call which route. Every route states its access; one that does not, does not start. Denial is the default
// and means stop: no handler runs before the identity is known.

import { timingSafeEqual } from "node:crypto";
import type { Site } from "@consilium/shared/protocol/enrolment.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { SiteSessions } from "../sites/site-sessions.ts";

export type Access = "public" | "site" | "operator" | "site-or-operator";
export type Identity =
  | { readonly kind: "public" }
  | { readonly kind: "operator" }
  | { readonly kind: "site"; readonly site: Site };

declare module "fastify" {
  interface FastifyContextConfig {
    access?: Access;
  }
  interface FastifyRequest {
    identity: Identity;
  }
}

/** Where the description of the routes is served. */
export const documentationPrefix = "/docs";

export type AccessPorts = { readonly sessions: SiteSessions; readonly operatorToken: string };

export function registerAccess(app: FastifyInstance, { sessions, operatorToken }: AccessPorts): void {
  const isOperator = tokenMatcher(operatorToken);
  app.decorateRequest("identity");
  app.addHook("onRoute", (route) => {
    // The documentation's routes come from a package and are the same for everybody.
    if (route.url === documentationPrefix || route.url.startsWith(`${documentationPrefix}/`)) {
      route.config = { ...route.config, access: "public" };
    }
    if (!route.config?.access)
      throw new Error(`${String(route.method)} ${route.url} does not say who may call it`);
  });
  app.addHook("onRequest", async (request) => {
    const access = request.routeOptions.config.access ?? "operator"; // Also what no route matched.
    request.identity = await identify(request, access, { isOperator, sessions });
  });
}

type Identifiers = { readonly isOperator: (token: string) => boolean; readonly sessions: SiteSessions };

async function identify(
  request: FastifyRequest,
  access: Access,
  { isOperator, sessions }: Identifiers,
): Promise<Identity> {
  if (access === "public" || request.is404) return { kind: "public" };
  const token = bearerToken(request.headers.authorization);
  if (isOperator(token)) {
    if (access === "site") throw new ProtocolError("auth.forbidden");
    return { kind: "operator" };
  }
  const site = await sessions.authenticate(token);
  if (access === "operator") throw new ProtocolError("auth.forbidden");
  return { kind: "site", site };
}

function bearerToken(header: string | undefined): string {
  const match = /^Bearer ([A-Za-z0-9_-]{1,200})$/.exec(header ?? "");
  if (!match?.[1]) throw new ProtocolError("auth.missing");
  return match[1];
}

/** Comparison in constant time for tokens of equal length. */
export function tokenMatcher(expected: string): (token: string) => boolean {
  const bytes = Buffer.from(expected);
  return (token) => {
    const given = Buffer.from(token);
    return given.length === bytes.length && timingSafeEqual(given, bytes);
  };
}
