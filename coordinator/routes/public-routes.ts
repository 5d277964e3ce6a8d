// What may be called without an identity: is the coordinator up, who is it, and the two ways to become somebody.

import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import {
  ChallengeAnswer,
  ChallengeBody,
  EnrolmentAnswer,
  EnrolmentBody,
  FederationAnswer,
  SessionAnswer,
  SessionBody,
} from "@consilium/shared/protocol/http.ts";
import { acceptedProtocolVersions } from "@consilium/shared/protocol/version.ts";
import rateLimit from "@fastify/rate-limit";
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import type { AuditLog } from "../audit/audit-log.ts";
import type { SiteDirectory } from "../sites/site-directory.ts";
import type { SiteSessions } from "../sites/site-sessions.ts";

/** Requests a minute from one address to the routes that anyone may call. */
const requestsPerMinuteMax = 120;

export type PublicRoutesPorts = {
  readonly log: AuditLog;
  readonly sessions: SiteSessions;
  readonly sites: SiteDirectory;
  /** @throws when a dependency does not answer */
  readonly checkReady: () => Promise<void>;
};

const access = { access: "public" } as const;
const Health = Type.Object({ status: Type.Literal("ok") });

export function publicRoutes({
  log,
  sessions,
  sites,
  checkReady,
}: PublicRoutesPorts): FastifyPluginAsyncTypebox {
  return async (app) => {
    await app.register(rateLimit, { max: requestsPerMinuteMax, timeWindow: "1 minute" });
    app.get("/healthz", { config: access, schema: { response: { 200: Health } } }, async () => ({
      status: "ok" as const,
    }));
    app.get("/readyz", { config: access, schema: { response: { 200: Health } } }, async () => {
      await checkReady().catch((cause) => {
        throw new ProtocolError("not-ready", [], { cause });
      });
      return { status: "ok" as const };
    });
    app.get(
      "/v1/federation",
      { config: access, schema: { response: { 200: FederationAnswer } } },
      async () => {
        const { opened } = log.state;
        if (!opened) throw new ProtocolError("not-ready");
        return { ...opened, protocolVersions: [...acceptedProtocolVersions] };
      },
    );
    app.post(
      "/v1/enrolments",
      { config: access, schema: { body: EnrolmentBody, response: { 201: EnrolmentAnswer } } },
      async (request, reply) => {
        const site = await sites.enrol(request.body.secret, request.body.envelope);
        const { opened } = log.state;
        if (!opened) throw new ProtocolError("not-ready");
        return reply.code(201).send({ site, ...opened });
      },
    );
    app.post(
      "/v1/challenges",
      { config: access, schema: { body: ChallengeBody, response: { 200: ChallengeAnswer } } },
      async (request) => sessions.challenge(request.body.site),
    );
    app.post(
      "/v1/sessions",
      { config: access, schema: { body: SessionBody, response: { 200: SessionAnswer } } },
      async (request) => sessions.open(request.body.envelope),
    );
  };
}
