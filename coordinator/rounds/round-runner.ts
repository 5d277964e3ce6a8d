// Executes the effects of the study machine in order: append, then send what rests on it. It is the only writer of
// study records but for the operator's own decisions. If the log changed under a decision, it decides again.

import type { SiteId, StudyId } from "@consilium/shared/base/brand.ts";
import type { Clock } from "@consilium/shared/base/clock.ts";
import { seal } from "@consilium/shared/crypto/envelope.ts";
import type { SigningKey } from "@consilium/shared/crypto/keys.ts";
import { ModelVersionDocument } from "@consilium/shared/protocol/documents.ts";
import { isActiveSite } from "@consilium/shared/protocol/federation.ts";
import type { ToSite } from "@consilium/shared/protocol/messages.ts";
import { decide } from "@consilium/shared/protocol/round.ts";
import type { RoundContext, RoundEffect, RoundEvent } from "@consilium/shared/protocol/round-events.ts";
import { initialStudyState, type StudyState } from "@consilium/shared/protocol/study-state.ts";
import { aggregate, weightOf } from "../aggregation/fedavg.ts";
import type { VectorKernel } from "../aggregation/vector-kernel.ts";
import type { AuditLog } from "../audit/audit-log.ts";
import { aggregatedParts } from "../versions/aggregated-parts.ts";
import type { ArtifactStore } from "../versions/artifact-store.ts";
import { deriveManifest, versionId } from "../versions/derive.ts";
import { recordedManifests } from "../versions/recorded-version.ts";
import { locate } from "./locate.ts";
import type { PlanBook } from "./plan-book.ts";
import { StudyTimers } from "./timers.ts";

/** Decisions taken again because the log had moved, for one event. */
const staleDecisionsMax = 50;
/** Pause before a failed aggregation is tried again. */
const aggregationRetryMs = 5_000;

export type RoundRunnerPorts = {
  readonly log: AuditLog;
  readonly plans: PlanBook;
  readonly artifacts: ArtifactStore;
  readonly kernel: VectorKernel;
  readonly key: SigningKey;
  readonly clock: Clock;
  /** Best effort: whoever is not connected will ask. */
  readonly send: (site: SiteId, message: ToSite) => void;
  readonly onFault: (error: unknown) => void;
};

type WithoutTime<E> = E extends unknown ? Omit<E, "nowMs"> : never;
export type RunnerEvent = WithoutTime<RoundEvent>;

class StaleDecision extends Error {}

export class RoundRunner {
  readonly #ports: RoundRunnerPorts;
  readonly #timers: StudyTimers;
  readonly #aggregating = new Set<string>();
  #turn: Promise<unknown> = Promise.resolve();
  #stopped = false;

  constructor(ports: RoundRunnerPorts) {
    this.#ports = ports;
    this.#timers = new StudyTimers(ports.clock);
  }

  /** Take up every study where it stands. */
  async start(): Promise<void> {
    for (const study of this.#ports.log.state.plans.keys()) await this.handle(study, { kind: "started" });
  }

  /** Every study looks again: a site was suspended, resumed, retired or withdrawn. */
  async sitesChanged(): Promise<void> {
    for (const study of this.#ports.log.state.plans.keys())
      await this.handle(study, { kind: "sites-changed" });
  }

  stop(): void {
    this.#stopped = true;
    this.#timers.stop();
  }

  /** One event of one study; events are handled one after the other. */
  handle(study: StudyId, event: RunnerEvent): Promise<void> {
    const result = this.#turn.then(() => this.#handle(study, event));
    this.#turn = result.catch(() => undefined);
    return result;
  }

  /** What the machine decides with, now. @throws ProtocolError study.unknown */
  context(study: StudyId): RoundContext & { readonly state: StudyState } {
    const { log, plans } = this.#ports;
    const { plan, digest } = plans.find(log.state, study);
    const state = log.state.studies.get(study) ?? initialStudyState(study);
    return { state, plan, planDigest: digest, isActive: isActiveSite(log.state) };
  }

  async #handle(study: StudyId, event: RunnerEvent): Promise<void> {
    await this.#ports.log.refresh();
    let pending: RunnerEvent[] = [event];
    for (let stale = 0; pending.length > 0 && !this.#stopped; ) {
      const [next, ...rest] = pending;
      try {
        if (next) await this.#decideAndExecute(study, next);
        pending = rest;
      } catch (error) {
        if (!(error instanceof StaleDecision) || stale >= staleDecisionsMax) throw error;
        stale += 1;
        // Part of the effects may have been executed: the event is idempotent, and the timer takes what is left.
        pending = [event, { kind: "timer" }];
      }
    }
  }

  async #decideAndExecute(study: StudyId, event: RunnerEvent): Promise<void> {
    const { log, clock } = this.#ports;
    const context = this.context(study);
    let size = log.size;
    for (const effect of decide(context.state, { ...event, nowMs: clock.nowMs() }, context)) {
      if (effect.kind === "append") {
        await log.append((state) => {
          if (state.size !== size) throw new StaleDecision("the log has moved");
          return [effect.record];
        });
        size = log.size;
      } else this.#execute(study, effect);
    }
  }

  #execute(study: StudyId, effect: Exclude<RoundEffect, { kind: "append" }>): void {
    switch (effect.kind) {
      case "send": {
        const message = locate(this.context(study).state, effect.message);
        if (message) this.#ports.send(effect.to, message);
        return;
      }
      case "timer":
        this.#timers.set(study, effect.atMs, () => this.#later(this.handle(study, { kind: "timer" })));
        return;
      case "aggregate":
        this.#later(this.#aggregate(study, effect));
    }
  }

  /** In the background: requests are served meanwhile. The same inputs always give the same version. */
  async #aggregate(study: StudyId, effect: Extract<RoundEffect, { kind: "aggregate" }>): Promise<void> {
    const job = `${study} ${effect.round}`;
    if (this.#aggregating.has(job)) return;
    this.#aggregating.add(job);
    try {
      await this.handle(study, {
        kind: "aggregated",
        round: effect.round,
        ...(await this.#derive(study, effect)),
      });
    } catch (error) {
      this.#ports.onFault(error);
      const atMs = this.#ports.clock.nowMs() + aggregationRetryMs;
      this.#timers.set(study, atMs, () => this.#later(this.handle(study, { kind: "timer" })));
    } finally {
      this.#aggregating.delete(job);
    }
  }

  async #derive(study: StudyId, { round, base, accepted }: Extract<RoundEffect, { kind: "aggregate" }>) {
    const { log, plans, artifacts: store, kernel, key } = this.#ports;
    const { plan, digest: planDigest, manifest } = plans.find(log.state, study);
    const parent = log.state.studies.get(study)?.versions.get(base);
    if (!parent) throw new Error("the base version of a round is in the log");
    const deltas = accepted.map(({ delta, examples }) => ({
      delta,
      weight: weightOf(examples, plan.aggregation.examplesPerSiteMax),
    }));
    const weights = await aggregate({ store, base: parent.weights.sha256, manifest, deltas, kernel });
    const parts = await aggregatedParts(store, plan.recipe, {
      parent: recordedManifests(log.state)(base),
      weights: weights.sha256,
    });
    const version = deriveManifest({
      origin: log.origin,
      plan,
      planDigest,
      round,
      parent: base,
      accepted,
      weights,
      parts,
    });
    return { version: versionId(version), weights, envelope: seal(ModelVersionDocument, version, key) };
  }

  #later(work: Promise<void>): void {
    work.catch((error: unknown) => this.#ports.onFault(error));
  }
}
