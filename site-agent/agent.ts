// The agent: it executes what the site's machine decides, one event at a time and each effect in order, so that a
// record is durable before anything that rests on it is shown. It knows ports only; images, tensors and sockets are
// behind them. The process may end between any two effects: the records alone say how to go on.

import type { Sha256, StudyId } from "@consilium/shared/base/brand.ts";
import type { Clock } from "@consilium/shared/base/clock.ts";
import type { ToCoordinator, ToSite } from "@consilium/shared/protocol/messages.ts";
import {
  afterJob,
  decideSite,
  evolveSite,
  initialSiteState,
  type PreparedUpdate,
  type SiteEffect,
  type SiteEvent,
  type SiteRecord,
  type SiteState,
  whileRunning,
} from "@consilium/shared/protocol/site-session.ts";
import type { AgentNotice, JobKind } from "./agent/agent-notice.ts";
import { FailureMemory } from "./agent/failure-memory.ts";

/** Events that may wait; beyond it, what the coordinator will say again is dropped. */
export const waitingEventsMax = 256;

export type RoundOffer = Extract<ToSite, { kind: "round.offer" }>;
export type EvaluationOffer = Extract<ToSite, { kind: "evaluation.offer" }>;
export type Release = Extract<ToSite, { kind: "version.released" }>;
export type Progress = Extract<ToCoordinator, { kind: "progress" }>;
type Ended<K extends SiteEvent["kind"]> = Extract<SiteEvent, { kind: K }>;

export type JobControl = {
  /** The round of the job, or of the study's latest update. */
  readonly round: number;
  /** Aborted when nobody waits for the result any more. */
  readonly signal: AbortSignal;
  readonly progress: (progress: Progress) => void;
};

/** What takes long: reading images, training, transfers. */
export type Work = {
  train(offer: RoundOffer, control: JobControl): Promise<Ended<"trained">>;
  evaluate(offer: EvaluationOffer, control: JobControl): Promise<Ended<"evaluated">>;
  install(release: Release, control: JobControl): Promise<Ended<"installed">>;
  /** Resolves when the coordinator holds the update's tensors. */
  deliver(update: PreparedUpdate, signal: AbortSignal): Promise<void>;
};

export type AgentPorts = {
  readonly journal: { append(record: SiteRecord): Promise<void> };
  readonly channel: { send(message: ToCoordinator): Promise<void> };
  readonly work: Work;
  readonly clock: Clock;
  /** A signal that is aborted after a time. */
  readonly deadline: (inMs: number) => AbortSignal;
  readonly tell: (notice: AgentNotice) => void;
};

export type AgentEnd =
  | { readonly kind: "stopped" }
  | { readonly kind: "alarm" }
  | { readonly kind: "failed"; readonly error: unknown };

type Job = {
  readonly kind: JobKind;
  readonly study: StudyId;
  readonly round: number;
  readonly abort: AbortController;
};
type Waiting = { readonly event: SiteEvent; readonly done: () => void };

export class Agent {
  /** Resolves when the agent does nothing more, and says why. */
  readonly ended: Promise<AgentEnd>;
  readonly #ports: AgentPorts;
  readonly #stopping = new AbortController();
  readonly #failures = new FailureMemory();
  readonly #delivering = new Set<Sha256>();
  readonly #waiting: Waiting[] = [];
  #state: SiteState;
  #job: Job | null = null;
  #isHandling = false;
  /** What is to be reported next. */
  #reported: Progress | null = null;
  #isReporting = false;
  #end: (end: AgentEnd) => void = () => {};

  constructor(records: readonly SiteRecord[], ports: AgentPorts) {
    this.#ports = ports;
    this.#state = records.reduce(evolveSite, initialSiteState);
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  get state(): SiteState {
    return this.#state;
  }

  /** Take an event into the queue. Resolves when its effects have been executed or it was dropped. */
  post(event: SiteEvent): Promise<void> {
    if (this.#stopping.signal.aborted || !this.#isWanted(event)) return Promise.resolve();
    if (this.#waiting.length >= waitingEventsMax && (event.kind === "message" || event.kind === "timer")) {
      return Promise.resolve();
    }
    const handled = new Promise<void>((resolve) => this.#waiting.push({ event, done: resolve }));
    if (!this.#isHandling) void this.#handleAll();
    return handled;
  }

  /** Stop at the next effect; what is not in the journal will be done again after the next start. */
  stop(end: AgentEnd = { kind: "stopped" }): void {
    this.#stopping.abort();
    this.#job?.abort.abort();
    for (const { done } of this.#waiting.splice(0)) done();
    this.#end(end);
  }

  async #handleAll(): Promise<void> {
    this.#isHandling = true;
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      try {
        await this.#handle(next.event);
      } catch (error) {
        this.stop({ kind: "failed", error }); // A journal or a ledger that does not take a record ends the agent.
      }
      next.done();
    }
    this.#isHandling = false;
  }

  async #handle(event: SiteEvent): Promise<void> {
    this.#state = afterJob(this.#state, event);
    for (const effect of decideSite(this.#state, event)) {
      if (this.#stopping.signal.aborted) return;
      this.#state = whileRunning(this.#state, effect);
      await this.#execute(effect);
    }
    const isAnnounced = ["connected", "timer", "log-inconsistent"].includes(event.kind);
    if (this.#state.alarm && isAnnounced) this.stop({ kind: "alarm" });
  }

  async #execute(effect: SiteEffect): Promise<void> {
    switch (effect.kind) {
      case "append":
        await this.#ports.journal.append(effect.record);
        this.#state = evolveSite(this.#state, effect.record);
        this.#ports.tell({ kind: "recorded", record: effect.record });
        break;
      case "send":
        await this.#ports.channel.send(effect.message);
        break;
      case "submit":
        void this.#deliver(effect.update);
        break;
      case "train":
      case "evaluate":
      case "install":
        void this.#work(effect);
    }
  }

  async #work(effect: Extract<SiteEffect, { kind: JobKind }>): Promise<void> {
    const { clock, tell, deadline } = this.#ports;
    const job = this.#jobOf(effect);
    const startedAtMs = clock.nowMs();
    const signals = [job.abort.signal, this.#stopping.signal];
    if ("offer" in effect) signals.push(deadline(effect.offer.remainingMs));
    const signal = AbortSignal.any(signals);
    tell({ kind: "job.started", job: job.kind, round: job.round });
    let result: SiteEvent = { kind: "failed" };
    try {
      const progress = (said: Progress): void => this.#progress(job, said);
      result = await this.#run(effect, { round: job.round, signal, progress });
      this.#failures.forget(job.study);
      tell({ kind: "job.finished", job: job.kind, durationMs: clock.nowMs() - startedAtMs });
    } catch (error) {
      if (signal.aborted) tell({ kind: "job.abandoned", job: job.kind });
      else {
        const holdOffMs = this.#failures.note(job.study, clock.nowMs());
        tell({ kind: "job.failed", job: job.kind, error, holdOffMs });
      }
    }
    this.#job = null;
    await this.post(result);
  }

  #run(effect: Extract<SiteEffect, { kind: JobKind }>, control: JobControl): Promise<SiteEvent> {
    const { work } = this.#ports;
    switch (effect.kind) {
      case "train":
        return work.train(effect.offer, control);
      case "evaluate":
        return work.evaluate(effect.offer, control);
      case "install":
        return work.install(effect.release, control);
    }
  }

  #jobOf(effect: Extract<SiteEffect, { kind: JobKind }>): Job {
    const { study } = effect.kind === "install" ? effect.release : effect.offer;
    const round = effect.kind === "train" ? effect.offer.round : (this.#state.updates.get(study)?.round ?? 1);
    const job = { kind: effect.kind, study, round, abort: new AbortController() };
    this.#job = job;
    return job;
  }

  #progress(job: Job, progress: Progress): void {
    const { channel, tell } = this.#ports;
    const { step, steps, loss } = progress;
    tell({ kind: "job.progress", job: job.kind, step, steps, loss });
    this.#reported = progress;
    if (!this.#isReporting) void this.#report(channel);
  }

  /** One at a time, and only the newest: a process that is busy with a job would fall behind with each of them. */
  async #report(channel: AgentPorts["channel"]): Promise<void> {
    this.#isReporting = true;
    try {
      for (let said = this.#reported; said; said = this.#reported) {
        this.#reported = null;
        await channel.send(said);
      }
    } catch (error) {
      this.stop({ kind: "failed", error });
    } finally {
      this.#isReporting = false;
    }
  }

  /** Upload, then show the envelope. Not awaited: the machine asks again until the update is settled. */
  async #deliver(update: PreparedUpdate): Promise<void> {
    if (this.#delivering.has(update.delta)) return;
    this.#delivering.add(update.delta);
    const { work, channel, tell } = this.#ports;
    const { signal } = this.#stopping;
    try {
      await work.deliver(update, signal);
      if (!signal.aborted) await channel.send({ kind: "update.submit", envelope: update.envelope });
    } catch (error) {
      if (!signal.aborted) tell({ kind: "submission.failed", error });
    } finally {
      this.#delivering.delete(update.delta);
    }
  }

  /** Offers of a study whose jobs keep failing are left alone for a while; news end a job that they make pointless. */
  #isWanted(event: SiteEvent): boolean {
    if (event.kind !== "message") return true;
    const { message } = event;
    if (this.#job && isPointless(this.#job, message)) this.#job.abort.abort();
    const isOffer =
      message.kind === "round.offer" ||
      message.kind === "evaluation.offer" ||
      message.kind === "version.released";
    return !isOffer || !this.#failures.isHeldOff(message.study, this.#ports.clock.nowMs());
  }
}

function isPointless(job: Job, message: ToSite): boolean {
  if (job.kind === "install" || message.study !== job.study) return false;
  if (message.kind === "study.finished") return true;
  if (message.kind === "round.offer") return job.kind === "evaluate" || message.round > job.round;
  return message.kind === "evaluation.offer" && job.kind === "train";
}
