// The consortium operator's routes: sites, studies, versions. Decisions are taken by the services; a route only says
// what it takes and what it answers.

import { dayMs } from "@consilium/shared/base/units.ts";
import type { SiteStatus } from "@consilium/shared/protocol/enrolment.ts";
import {
  InvitationAnswer,
  InvitationBody,
  ReasonBody,
  ReleaseBody,
  SitesAnswer,
  StudiesAnswer,
  StudyAnswer,
  StudyBody,
  VersionsAnswer,
  WithdrawalAnswer,
  WithdrawalBody,
} from "@consilium/shared/protocol/http.ts";
import { SiteName, StudyName, VersionId } from "@consilium/shared/protocol/names.ts";
import type { FastifyPluginAsyncTypebox } from "@fastify/type-provider-typebox";
import { Type } from "typebox";
import type { AuditLog } from "../audit/audit-log.ts";
import type { PlanBook } from "../rounds/plan-book.ts";
import type { SiteDirectory } from "../sites/site-directory.ts";
import type { Studies } from "../studies/studies.ts";
import { studiesOverWithdrawn } from "../versions/part-history.ts";
import { recordedManifests } from "../versions/recorded-version.ts";
import { siteAnswers, studyAnswer, versionAnswers } from "./views.ts";

const invitationLifetimeMs = 7 * dayMs;

export type OperatorRoutesPorts = {
  readonly log: AuditLog;
  readonly plans: PlanBook;
  readonly sites: SiteDirectory;
  readonly studies: Studies;
  readonly isConnected: (site: string) => boolean;
};

const config = { access: "operator" } as const;
const StudyParams = Type.Object({ study: StudyName });
const SiteParams = Type.Object({ site: SiteName });
const Released = Type.Object({ released: Type.Union([VersionId, Type.Null()]) });
const Done = Type.Object({ done: Type.Literal(true) });

export function operatorRoutes(ports: OperatorRoutesPorts): FastifyPluginAsyncTypebox {
  return async (app) => {
    await app.register(siteCommands(ports));
    await app.register(studyCommands(ports));
    await app.register(versionCommands(ports));
  };
}

function siteCommands({ log, sites, isConnected }: OperatorRoutesPorts): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.post(
      "/v1/invitations",
      { config, schema: { body: InvitationBody, response: { 201: InvitationAnswer } } },
      async (request, reply) => {
        const { site, validForMs = invitationLifetimeMs } = request.body;
        return reply.code(201).send(await sites.invite(site, validForMs));
      },
    );
    app.get("/v1/sites", { config, schema: { response: { 200: SitesAnswer } } }, async () => ({
      sites: siteAnswers(log.state, isConnected),
    }));
    const statuses: Record<string, SiteStatus> = {
      suspension: "suspended",
      resumption: "active",
      retirement: "retired",
    };
    for (const [verb, status] of Object.entries(statuses)) {
      const schema = { params: SiteParams, body: ReasonBody, response: { 200: Done } };
      app.post(`/v1/sites/:site/${verb}`, { config, schema }, async (request) => {
        await sites.changeStatus(request.params.site, status, request.body.reason);
        return { done: true as const };
      });
    }
  };
}

function studyCommands({
  log,
  plans,
  sites,
  studies,
  isConnected,
}: OperatorRoutesPorts): FastifyPluginAsyncTypebox {
  const view = (study: Parameters<Studies["abortRound"]>[0]) =>
    studyAnswer(log.state, plans.find(log.state, study), isConnected);
  return async (app) => {
    app.post(
      "/v1/studies",
      { config, schema: { body: StudyBody, response: { 201: StudyAnswer } } },
      async (request, reply) => {
        const plan = await studies.open(request.body.plan, request.body.start);
        return reply.code(201).send(view(plan.study));
      },
    );
    app.get("/v1/studies", { config, schema: { response: { 200: StudiesAnswer } } }, async () => {
      await log.refresh();
      return { studies: [...log.state.plans.keys()].map(view) };
    });
    app.get(
      "/v1/studies/:study",
      { config, schema: { params: StudyParams, response: { 200: StudyAnswer } } },
      async (request) => {
        await log.refresh();
        return view(request.params.study);
      },
    );
    app.post(
      "/v1/studies/:study/round/abortion",
      { config, schema: { params: StudyParams, response: { 200: StudyAnswer } } },
      async (request) => {
        await studies.abortRound(request.params.study);
        return view(request.params.study);
      },
    );
    app.post(
      "/v1/studies/:study/finish",
      { config, schema: { params: StudyParams, response: { 200: StudyAnswer } } },
      async (request) => {
        await studies.finish(request.params.study);
        return view(request.params.study);
      },
    );
    const withdrawal = { params: StudyParams, body: WithdrawalBody, response: { 200: WithdrawalAnswer } };
    app.post("/v1/studies/:study/withdrawals", { config, schema: withdrawal }, async (request) => {
      const { site, reason } = request.body;
      const versions = await sites.withdraw(request.params.study, site, reason);
      const startedFrom = studiesOverWithdrawn(log.state, recordedManifests(log.state));
      // Versions of the record that was appended.
      return { versions: versions.map((version) => version as never), studies: startedFrom };
    });
  };
}

function versionCommands({ log, plans, studies }: OperatorRoutesPorts): FastifyPluginAsyncTypebox {
  return async (app) => {
    app.get(
      "/v1/studies/:study/versions",
      { config, schema: { params: StudyParams, response: { 200: VersionsAnswer } } },
      async (request) => {
        await log.refresh();
        plans.find(log.state, request.params.study);
        return { versions: versionAnswers(log.state, request.params.study) };
      },
    );
    const release = { params: StudyParams, body: ReleaseBody, response: { 200: Released } };
    app.post("/v1/studies/:study/release", { config, schema: release }, async (request) => {
      const { version, reason } = request.body;
      return { released: await studies.release(request.params.study, version, reason) };
    });
    const rollback = { params: StudyParams, body: ReasonBody, response: { 200: Released } };
    app.post("/v1/studies/:study/rollback", { config, schema: rollback }, async (request) => ({
      released: await studies.rollBack(request.params.study, request.body.reason),
    }));
  };
}
