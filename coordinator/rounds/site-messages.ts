// What the coordinator makes of a message that an authenticated site sent on its socket: signed documents are opened
// under the site's key on record, and become events of the study's machine. A document that cannot even be attributed
// to a study is refused on the site's own account.

import type { SiteId, StudyId } from "@consilium/shared/base/brand.ts";
import {
  type DocumentType,
  type Envelope,
  EnvelopeError,
  envelopeDigest,
  openEnvelope,
} from "@consilium/shared/crypto/envelope.ts";
import {
  AlarmDocument,
  ApprovalDocument,
  EvaluationDocument,
  InstallationDocument,
} from "@consilium/shared/protocol/documents.ts";
import { refuseDocument, type Site } from "@consilium/shared/protocol/enrolment.ts";
import { ProtocolError, type ProtocolErrorCode } from "@consilium/shared/protocol/errors.ts";
import type { ToCoordinator } from "@consilium/shared/protocol/messages.ts";
import { acceptedProtocolVersions } from "@consilium/shared/protocol/version.ts";
import type { Static, TSchema } from "typebox";
import type { AuditLog } from "../audit/audit-log.ts";
import { admit, type IntakePorts, openStatement } from "../intake/admit.ts";
import type { PlanBook } from "./plan-book.ts";
import type { RoundRunner } from "./round-runner.ts";

export type SiteMessagesPorts = {
  readonly log: AuditLog;
  readonly plans: PlanBook;
  readonly runner: RoundRunner;
  readonly intake: IntakePorts;
};

export class SiteMessages {
  readonly #ports: SiteMessagesPorts;

  constructor(ports: SiteMessagesPorts) {
    this.#ports = ports;
  }

  /** @throws ProtocolError when the message is refused; everything else is answered by messages */
  async receive(name: SiteId, message: ToCoordinator): Promise<void> {
    const site = this.#activeSite(name);
    switch (message.kind) {
      case "session.hello":
        return this.#hello(site, message.protocol);
      case "plan.approve":
        return this.#approve(site, message.envelope);
      case "update.submit":
        return this.#update(site, message.envelope);
      case "evaluation.submit":
        return this.#evaluation(site, message.envelope);
      case "version.installed":
        return this.#installed(site, message.envelope);
      case "witness.alarm":
        return this.#alarm(site, message.envelope);
      case "progress":
        return;
    }
  }

  async #hello(site: Site, protocol: number): Promise<void> {
    if (!acceptedProtocolVersions.includes(protocol)) throw new ProtocolError("protocol.unsupported");
    const studies = [...this.#ports.log.state.plans.keys()];
    for (const study of studies) await this.#ports.runner.handle(study, { kind: "hello", site: site.site });
  }

  async #approve(site: Site, envelope: Envelope): Promise<void> {
    const { study, plan, examples } = await this.#open(ApprovalDocument, envelope, site);
    const opened = this.#planFor(study, site);
    if (plan !== opened.digest) throw new ProtocolError("plan.stale");
    await this.#ports.runner.handle(study, { kind: "approved", site: site.site, plan, examples, envelope });
  }

  async #update(site: Site, envelope: Envelope): Promise<void> {
    const { log, runner, intake } = this.#ports;
    let statement: ReturnType<typeof openStatement>;
    try {
      statement = openStatement(envelope, site, log.origin);
    } catch (error) {
      if (!(error instanceof EnvelopeError)) throw error;
      return this.#refuse(site, envelope, "envelope.refused", error);
    }
    if (!statement) return this.#refuse(site, envelope, "document.foreign");
    const { manifest } = this.#planFor(statement.study, site);
    const { state, ...context } = runner.context(statement.study);
    const event = await admit({ statement, envelope, state, context, manifest }, intake);
    await runner.handle(statement.study, event);
  }

  async #evaluation(site: Site, envelope: Envelope): Promise<void> {
    const { study, version, report } = await this.#open(EvaluationDocument, envelope, site);
    this.#planFor(study, site);
    const { meanDice } = report;
    await this.#ports.runner.handle(study, {
      kind: "evaluated",
      site: site.site,
      version,
      meanDice,
      envelope,
    });
  }

  async #installed(site: Site, envelope: Envelope): Promise<void> {
    const { study, version } = await this.#open(InstallationDocument, envelope, site);
    this.#planFor(study, site);
    await this.#ports.log.append((state) => {
      const known = state.studies.get(study);
      if (!known || (version !== null && !known.versions.has(version)))
        throw new ProtocolError("version.unknown");
      const repeated = known.installed.get(site.site) === version;
      return repeated ? [] : [{ kind: "version.installed", study, version, site: site.site, envelope }];
    });
  }

  async #alarm(site: Site, envelope: Envelope): Promise<void> {
    await this.#open(AlarmDocument, envelope, site);
    const digest = envelopeDigest(envelope);
    await this.#ports.log.append((state) =>
      state.enrolment.sites.get(site.site)?.alarm === digest
        ? []
        : [{ kind: "witness.alarmed", site: site.site, alarm: digest, envelope }],
    );
  }

  /** @throws ProtocolError after recording the refusal */
  async #open<T extends TSchema>(type: DocumentType<T>, envelope: Envelope, site: Site): Promise<Static<T>> {
    let document: Static<T>;
    try {
      document = openEnvelope(type, envelope, site.publicKey);
    } catch (error) {
      if (!(error instanceof EnvelopeError)) throw error;
      return this.#refuse(site, envelope, "envelope.refused", error);
    }
    const { site: name, origin } = document as { site?: string; origin?: string }; // All documents of sites name both.
    if (name === site.site && origin === this.#ports.log.origin) return document;
    return this.#refuse(site, envelope, "document.foreign");
  }

  async #refuse(site: Site, envelope: Envelope, code: ProtocolErrorCode, cause?: Error): Promise<never> {
    const refusal = { site: site.site, code, document: envelopeDigest(envelope) };
    await this.#ports.log.append((state) => refuseDocument(state.enrolment, refusal));
    throw new ProtocolError(code, cause ? [cause.message] : [], { cause });
  }

  #activeSite(name: SiteId): Site {
    const site = this.#ports.log.state.enrolment.sites.get(name);
    if (!site) throw new ProtocolError("site.unknown");
    if (site.status !== "active") throw new ProtocolError("site.not-active");
    return site;
  }

  /** Studies that a site is not part of do not exist for it. */
  #planFor(study: StudyId, site: Site): ReturnType<PlanBook["find"]> {
    const opened = this.#ports.plans.find(this.#ports.log.state, study);
    if (!opened.plan.sites.includes(site.site)) throw new ProtocolError("study.unknown");
    return opened;
  }
}
