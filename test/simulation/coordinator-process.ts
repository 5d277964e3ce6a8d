// The coordinator's shell in miniature: it executes the effects of the real machine in order, on a disk that survives.

import type { ModelVersionId, Sha256, SiteId } from "@consilium/shared/base/brand.ts";
import { planDigest, type StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { changeStatus } from "@consilium/shared/protocol/enrolment.ts";
import {
  evolveFederation,
  type FederationState,
  initialFederationState,
  isActiveSite,
} from "@consilium/shared/protocol/federation.ts";
import type { ToCoordinator, ToSite } from "@consilium/shared/protocol/messages.ts";
import type { LogEntry, LogRecord } from "@consilium/shared/protocol/records.ts";
import { withdrawContribution } from "@consilium/shared/protocol/release.ts";
import { objection } from "@consilium/shared/protocol/round.ts";
import type {
  RoundContext,
  RoundEffect,
  RoundEvent,
  RoundMessage,
} from "@consilium/shared/protocol/round-events.ts";
import { initialStudyState, type StudyState } from "@consilium/shared/protocol/study-state.ts";
import { coordinatorName, type Host } from "./host.ts";
import * as scenery from "./scenery.ts";

export class CoordinatorProcess {
  /** The disk. */
  readonly log: LogEntry[] = [];
  readonly plan: StudyPlan;
  readonly #planDigest: Sha256;
  readonly #host: Host;
  #federation: FederationState = initialFederationState;

  constructor(host: Host, plan: StudyPlan) {
    this.#host = host;
    this.plan = plan;
    this.#planDigest = planDigest(plan);
    this.#writeGenesis();
  }

  get study(): StudyState {
    return this.#federation.studies.get(scenery.study) ?? initialStudyState(scenery.study);
  }

  /** The state in memory, to compare with the fold over the disk. */
  get federation(): FederationState {
    return this.#federation;
  }

  start(): void {
    this.#federation = this.log.reduce(evolveFederation, initialFederationState);
    this.#host.after(coordinatorName, 0, () => this.#handle({ kind: "started", nowMs: this.#nowMs }));
  }

  /** What the shell makes of a site's message. */
  receive(site: SiteId, message: ToCoordinator): void {
    const nowMs = this.#nowMs;
    if (message.kind === "session.hello") this.#handle({ kind: "hello", nowMs, site });
    if (message.kind === "plan.approve") {
      const { plan, examples } = scenery.documentOf<scenery.SimulatedApproval>(message.envelope);
      this.#handle({ kind: "approved", nowMs, site, plan, examples, envelope: message.envelope });
    }
    if (message.kind === "update.submit") {
      const { broken, ...document } = scenery.documentOf<scenery.SimulatedUpdate>(message.envelope);
      const update = { ...document, update: scenery.digest(message.envelope.payload) };
      const { round } = update;
      // Tensors are read only when nothing cheaper speaks against the update.
      if (broken && objection(this.study, update, this.#context()) === null) {
        this.#handle({
          kind: "update-refused",
          nowMs,
          site,
          round,
          update: update.update,
          code: "update.not-finite",
        });
      } else this.#handle({ kind: "update", nowMs, ...update, envelope: message.envelope });
    }
    if (message.kind === "evaluation.submit") {
      const { version, meanDice } = scenery.documentOf<scenery.SimulatedReport>(message.envelope);
      this.#handle({ kind: "evaluated", nowMs, site, version, meanDice, envelope: message.envelope });
    }
  }

  operateAtRandom(): void {
    const { prng } = this.#host;
    const site = prng.pick(this.plan.sites);
    const action = prng.int(0, 9);
    const { withdrawnSites, approvals } = this.study;
    if (action === 0) this.#handle({ kind: "abort-round", nowMs: this.#nowMs });
    else if (action > 1) this.#toggle(site);
    // Withdrawal shrinks the federation for good: rarely, and never below the quorum.
    else if (this.plan.sites.length - withdrawnSites.size > this.plan.rounds.quorum) {
      if (approvals.has(site) && !withdrawnSites.has(site))
        this.#operate(withdrawContribution(this.study, site, "chance"));
    }
  }

  resumeEverySite(): void {
    for (const { site, status } of this.#federation.enrolment.sites.values())
      if (status === "suspended") this.#toggle(site);
  }

  #toggle(site: SiteId): void {
    const { enrolment } = this.#federation;
    const to = enrolment.sites.get(site)?.status === "active" ? "suspended" : "active";
    this.#operate(changeStatus(enrolment, { site, to, reason: "chance" }));
  }

  /** One transaction of the operator, then the study's machine looks at what changed. */
  #operate(records: readonly LogRecord[]): void {
    for (const record of records) this.#append(record);
    this.#handle({ kind: "sites-changed", nowMs: this.#nowMs });
  }

  #handle(event: RoundEvent): void {
    const life = this.#host.life(coordinatorName);
    for (const effect of this.#host.machines.decide(this.study, event, this.#context())) {
      this.#execute(effect);
      if (this.#host.diesHere(coordinatorName, life)) return;
    }
  }

  #execute(effect: RoundEffect): void {
    const later = (inMs: number, event: () => RoundEvent): void =>
      this.#host.after(coordinatorName, inMs, () => this.#handle(event()));
    switch (effect.kind) {
      case "append":
        this.#append(effect.record);
        break;
      case "send":
        this.#host.send(coordinatorName, effect.to, located(effect.message));
        break;
      case "timer":
        later(effect.atMs - this.#nowMs, () => ({ kind: "timer", nowMs: this.#nowMs }));
        break;
      case "aggregate": {
        const { round } = effect;
        const version = scenery.versionOf(effect.base, effect.accepted);
        const envelope = scenery.unsigned({ version }, scenery.siteName(0));
        later(this.#host.prng.int(1, 300), () => ({
          kind: "aggregated",
          nowMs: this.#nowMs,
          round,
          version,
          weights: scenery.weightsOf(version),
          envelope,
        }));
      }
    }
  }

  #append(record: LogRecord): void {
    const entry = { index: this.log.length, atMs: Math.max(0, this.#nowMs), record };
    this.log.push(entry);
    this.#federation = evolveFederation(this.#federation, entry);
  }

  #context(): RoundContext {
    return {
      plan: this.plan,
      planDigest: this.#planDigest,
      isActive: isActiveSite(this.#federation),
    };
  }

  get #nowMs(): number {
    return this.#host.clock(coordinatorName);
  }

  #writeGenesis(): void {
    const envelope = scenery.unsigned({}, scenery.siteName(0));
    const coordinatorKey = scenery.siteKey(scenery.siteName(99));
    this.#append({ kind: "log.opened", origin: scenery.origin, coordinatorKey, protocol: 1 });
    for (const site of this.plan.sites) {
      const invitation = scenery.digest(`invitation ${site}`);
      this.#append({ kind: "site.invited", invitation, site, expiresAtMs: 1e6 });
      this.#append({
        kind: "site.enrolled",
        site,
        invitation,
        publicKey: scenery.siteKey(site),
        envelope,
      });
    }
    const { study, rounds } = this.plan;
    const version = scenery.startVersion;
    this.#append({
      kind: "version.created",
      study,
      round: 0,
      version,
      weights: scenery.weightsOf(version),
      evaluateUntilMs: 0,
      envelope,
    });
    const recruitUntilMs = rounds.recruitmentMs;
    this.#append({ kind: "study.opened", study, plan: this.#planDigest, recruitUntilMs, envelope });
  }
}

/** Where weights lie is the shell's business; here a version's digest stands for them. */
function located(message: RoundMessage): ToSite {
  const reference = (version: ModelVersionId) => ({
    version,
    weights: scenery.weightsOf(version),
  });
  if (message.kind === "round.offer") return { ...message, base: reference(message.base) };
  if (message.kind === "evaluation.offer") return { ...message, candidate: reference(message.candidate) };
  if (message.kind === "version.released")
    return { ...message, released: message.released && reference(message.released) };
  return message;
}
