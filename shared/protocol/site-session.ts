// The site's machine: what a hospital's agent does about an offer. Pure, like the coordinator's. It trains under
// approved plans only, prepares each round's update once and keeps it before showing it, and stops trusting a
// coordinator whose log does not continue the checkpoint it holds.

import type { ModelVersionId, Sha256, StudyId } from "../base/brand.ts";
import type { Envelope } from "../crypto/envelope.ts";
import type { ToCoordinator, ToSite } from "./messages.ts";
import { protocolVersion } from "./version.ts";

/** Durable facts of the site, kept in its journal. */
export type SiteRecord =
  | {
      readonly kind: "plan.approved";
      readonly study: StudyId;
      readonly plan: Sha256;
      readonly examples: number;
      readonly envelope: Envelope;
    }
  | {
      readonly kind: "update.prepared";
      readonly study: StudyId;
      readonly round: number;
      readonly delta: Sha256;
      readonly bytes: number;
      readonly envelope: Envelope;
    }
  | {
      readonly kind: "update.settled";
      readonly study: StudyId;
      readonly round: number;
      readonly outcome: string;
    }
  | {
      readonly kind: "evaluation.prepared";
      readonly study: StudyId;
      readonly version: ModelVersionId;
      readonly envelope: Envelope;
    }
  | {
      readonly kind: "evaluation.settled";
      readonly study: StudyId;
      readonly version: ModelVersionId;
      readonly outcome: string;
    }
  | {
      readonly kind: "version.installed";
      readonly study: StudyId;
      /** Null: the last one was taken out of use. */
      readonly version: ModelVersionId | null;
      readonly envelope: Envelope;
    }
  | { readonly kind: "checkpoint.witnessed"; readonly size: number; readonly note: string }
  | { readonly kind: "alarm.raised"; readonly reason: AlarmReason; readonly envelope: Envelope }
  | { readonly kind: "alarm.cleared"; readonly by: string };

export type AlarmReason = "inconsistent" | "shrunk" | "bad-signature";

type RoundOffer = Extract<ToSite, { kind: "round.offer" }>;
type EvaluationOffer = Extract<ToSite, { kind: "evaluation.offer" }>;
type Release = Extract<ToSite, { kind: "version.released" }>;

export type SiteEvent =
  | { readonly kind: "started" }
  | { readonly kind: "timer" }
  | { readonly kind: "connected" }
  /** The hospital has approved a plan. */
  | {
      readonly kind: "approval";
      readonly study: StudyId;
      readonly plan: Sha256;
      readonly examples: number;
      readonly envelope: Envelope;
    }
  | { readonly kind: "message"; readonly message: ToSite }
  | {
      readonly kind: "trained";
      readonly study: StudyId;
      readonly round: number;
      readonly delta: Sha256;
      readonly bytes: number;
      readonly envelope: Envelope;
    }
  | {
      readonly kind: "evaluated";
      readonly study: StudyId;
      readonly version: ModelVersionId;
      readonly envelope: Envelope;
    }
  | {
      readonly kind: "installed";
      readonly study: StudyId;
      readonly version: ModelVersionId | null;
      readonly envelope: Envelope;
    }
  /** A job ended without a result; the offer will come again. */
  | { readonly kind: "failed" }
  | { readonly kind: "witnessed"; readonly size: number; readonly note: string }
  | { readonly kind: "log-inconsistent"; readonly reason: AlarmReason; readonly envelope: Envelope };

export type SiteEffect =
  | { readonly kind: "append"; readonly record: SiteRecord }
  | { readonly kind: "send"; readonly message: ToCoordinator }
  /** Put the tensors of the prepared update where the coordinator can read them, then send its envelope. */
  | { readonly kind: "submit"; readonly update: PreparedUpdate }
  | { readonly kind: "train"; readonly offer: RoundOffer }
  | { readonly kind: "evaluate"; readonly offer: EvaluationOffer }
  | { readonly kind: "install"; readonly release: Release };

export type PreparedUpdate = {
  readonly study: StudyId;
  readonly round: number;
  readonly delta: Sha256;
  readonly bytes: number;
  readonly envelope: Envelope;
  readonly settled: boolean;
};
type PreparedEvaluation = {
  readonly version: ModelVersionId;
  readonly envelope: Envelope;
  readonly settled: boolean;
};
type Approval = { readonly plan: Sha256; readonly examples: number; readonly envelope: Envelope };

export type SiteState = {
  readonly approvals: ReadonlyMap<StudyId, Approval>;
  readonly updates: ReadonlyMap<StudyId, PreparedUpdate>;
  readonly evaluations: ReadonlyMap<StudyId, PreparedEvaluation>;
  readonly installed: ReadonlyMap<
    StudyId,
    { readonly version: ModelVersionId | null; readonly envelope: Envelope }
  >;
  readonly witnessed: { readonly size: number; readonly note: string } | null;
  readonly alarm: { readonly reason: AlarmReason; readonly envelope: Envelope } | null;
  /** The one job in progress. Not durable: a crash forgets it and the offer comes again. */
  readonly busy: boolean;
};

export const initialSiteState: SiteState = {
  approvals: new Map(),
  updates: new Map(),
  evaluations: new Map(),
  installed: new Map(),
  witnessed: null,
  alarm: null,
  busy: false,
};

export function evolveSite(state: SiteState, record: SiteRecord): SiteState {
  switch (record.kind) {
    case "plan.approved": {
      const { study, plan, examples, envelope } = record;
      return { ...state, approvals: new Map(state.approvals).set(study, { plan, examples, envelope }) };
    }
    case "update.prepared": {
      const { kind: _, ...update } = record;
      return { ...state, updates: new Map(state.updates).set(update.study, { ...update, settled: false }) };
    }
    case "update.settled": {
      const update = state.updates.get(record.study);
      if (update?.round !== record.round) return state;
      return { ...state, updates: new Map(state.updates).set(record.study, { ...update, settled: true }) };
    }
    case "evaluation.prepared": {
      const { study, version, envelope } = record;
      return {
        ...state,
        evaluations: new Map(state.evaluations).set(study, { version, envelope, settled: false }),
      };
    }
    case "evaluation.settled": {
      const evaluation = state.evaluations.get(record.study);
      if (evaluation?.version !== record.version) return state;
      return {
        ...state,
        evaluations: new Map(state.evaluations).set(record.study, { ...evaluation, settled: true }),
      };
    }
    case "version.installed": {
      const { study, version, envelope } = record;
      return { ...state, installed: new Map(state.installed).set(study, { version, envelope }) };
    }
    case "checkpoint.witnessed":
      return { ...state, witnessed: { size: record.size, note: record.note } };
    case "alarm.raised":
      return { ...state, alarm: { reason: record.reason, envelope: record.envelope } };
    case "alarm.cleared":
      return { ...state, alarm: null };
  }
}

/** What executing an effect changes that no record says: whether a job is in progress. */
export function whileRunning(state: SiteState, effect: SiteEffect): SiteState {
  const starts = effect.kind === "train" || effect.kind === "evaluate" || effect.kind === "install";
  return starts ? { ...state, busy: true } : state;
}

/** The counterpart of `whileRunning`, applied when an event ends the job. */
export function afterJob(state: SiteState, event: SiteEvent): SiteState {
  const ends = ["trained", "evaluated", "installed", "failed"].includes(event.kind);
  return ends ? { ...state, busy: false } : state;
}

export function decideSite(state: SiteState, event: SiteEvent): SiteEffect[] {
  switch (event.kind) {
    case "started":
      return [];
    case "timer":
    case "connected":
      return announce(state);
    case "approval":
      return onApproval(state, event);
    case "message":
      return state.alarm ? [] : onMessage(state, event.message);
    case "trained":
      return onTrained(state, event);
    case "evaluated":
      return onEvaluated(state, event);
    case "installed":
      return [
        append({
          kind: "version.installed",
          study: event.study,
          version: event.version,
          envelope: event.envelope,
        }),
        send({ kind: "version.installed", envelope: event.envelope }),
      ];
    case "failed":
      return [];
    case "witnessed":
      return onWitnessed(state, event);
    case "log-inconsistent":
      return state.alarm ? [] : raise(event);
  }
}

/** Everything not yet settled, again; then a hello, to hear what is owed. */
function announce(state: SiteState): SiteEffect[] {
  if (state.alarm) return [send({ kind: "witness.alarm", envelope: state.alarm.envelope })];
  const updates = [...state.updates.values()]
    .filter((one) => !one.settled)
    .map((update): SiteEffect => ({ kind: "submit", update }));
  const evaluations = [...state.evaluations.values()]
    .filter((one) => !one.settled)
    .map((one) => send({ kind: "evaluation.submit", envelope: one.envelope }));
  return [send({ kind: "session.hello", protocol: protocolVersion }), ...updates, ...evaluations];
}

function onApproval(state: SiteState, event: Extract<SiteEvent, { kind: "approval" }>): SiteEffect[] {
  const { study, plan, examples, envelope } = event;
  if (state.approvals.get(study)?.plan === plan) return [];
  return [
    append({ kind: "plan.approved", study, plan, examples, envelope }),
    send({ kind: "plan.approve", envelope }),
  ];
}

function onMessage(state: SiteState, message: ToSite): SiteEffect[] {
  switch (message.kind) {
    case "study.invitation": {
      // The coordinator has no record of the approval: the message may have been lost.
      const approval = state.approvals.get(message.study);
      return approval?.plan === message.plan
        ? [send({ kind: "plan.approve", envelope: approval.envelope })]
        : [];
    }
    case "round.offer":
      return onRoundOffer(state, message);
    case "evaluation.offer":
      return onEvaluationOffer(state, message);
    case "update.settled": {
      const update = state.updates.get(message.study);
      if (update?.round !== message.round || update.settled || isTransient(message.outcome)) return [];
      return [
        append({
          kind: "update.settled",
          study: message.study,
          round: message.round,
          outcome: message.outcome,
        }),
      ];
    }
    case "evaluation.settled": {
      const evaluation = state.evaluations.get(message.study);
      if (evaluation?.version !== message.version || evaluation.settled) return [];
      return [
        append({
          kind: "evaluation.settled",
          study: message.study,
          version: message.version,
          outcome: message.outcome,
        }),
      ];
    }
    case "version.released":
      return onReleased(state, message);
    case "study.finished":
      return [];
  }
}

/** An answer after which the same update is worth sending again. */
const isTransient = (outcome: string): boolean => outcome === "update.blob-missing";

function onRoundOffer(state: SiteState, offer: RoundOffer): SiteEffect[] {
  if (state.approvals.get(offer.study)?.plan !== offer.plan) return []; // Not the plan that this hospital approved.
  const prepared = state.updates.get(offer.study);
  if (prepared?.round === offer.round) return prepared.settled ? [] : [{ kind: "submit", update: prepared }];
  const past = prepared !== undefined && offer.round < prepared.round;
  return past || state.busy || offer.remainingMs <= 0 ? [] : [{ kind: "train", offer }];
}

function onEvaluationOffer(state: SiteState, offer: EvaluationOffer): SiteEffect[] {
  if (state.approvals.get(offer.study)?.plan !== offer.plan) return [];
  const prepared = state.evaluations.get(offer.study);
  if (prepared?.version === offer.candidate.version) {
    return prepared.settled ? [] : [send({ kind: "evaluation.submit", envelope: prepared.envelope })];
  }
  return state.busy ? [] : [{ kind: "evaluate", offer }];
}

function onReleased(state: SiteState, release: Release): SiteEffect[] {
  const installed = state.installed.get(release.study);
  // The coordinator names the release until it has the site's word for it: the message may have been lost.
  if (installed && installed.version === (release.released?.version ?? null)) {
    return [send({ kind: "version.installed", envelope: installed.envelope })];
  }
  return state.approvals.has(release.study) && !state.busy ? [{ kind: "install", release }] : [];
}

/** Kept before it is shown: after a crash the very same bytes are sent, never a second update of the round. */
function onTrained(state: SiteState, event: Extract<SiteEvent, { kind: "trained" }>): SiteEffect[] {
  const { study, round, delta, bytes, envelope } = event;
  const prepared = state.updates.get(study);
  if (state.alarm || (prepared && prepared.round >= round)) return [];
  const update = { study, round, delta, bytes, envelope };
  return [
    append({ kind: "update.prepared", ...update }),
    { kind: "submit", update: { ...update, settled: false } },
  ];
}

function onEvaluated(state: SiteState, event: Extract<SiteEvent, { kind: "evaluated" }>): SiteEffect[] {
  const { study, version, envelope } = event;
  if (state.alarm || state.evaluations.get(study)?.version === version) return [];
  return [
    append({ kind: "evaluation.prepared", study, version, envelope }),
    send({ kind: "evaluation.submit", envelope }),
  ];
}

function onWitnessed(
  state: SiteState,
  { size, note }: Extract<SiteEvent, { kind: "witnessed" }>,
): SiteEffect[] {
  return state.alarm || (state.witnessed?.size ?? -1) >= size
    ? []
    : [append({ kind: "checkpoint.witnessed", size, note })];
}

function raise({ reason, envelope }: Extract<SiteEvent, { kind: "log-inconsistent" }>): SiteEffect[] {
  return [append({ kind: "alarm.raised", reason, envelope }), send({ kind: "witness.alarm", envelope })];
}

function append(record: SiteRecord): SiteEffect {
  return { kind: "append", record };
}

function send(message: ToCoordinator): SiteEffect {
  return { kind: "send", message };
}
