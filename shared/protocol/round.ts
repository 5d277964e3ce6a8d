// The coordinator's machine for one study: rounds of training, aggregation and evaluation. `decide` is pure: no
// clock, no chance, no I/O. Effects are executed in order and the process may die between any two of them; what was
// not appended has not happened, and nothing is sent that rests on a record not yet appended.

import type { ModelVersionId, Sha256, SiteId } from "../base/brand.ts";
import type { StudyPlan } from "../model/study-plan.ts";
import { isProtocolErrorCode, type ProtocolErrorCode } from "./errors.ts";
import { refusalsPerRoundMax, roundDurationMsMax } from "./limits.ts";
import { judge } from "./promotion.ts";
import type { StudyRecord } from "./records.ts";
import type { RoundContext, RoundEffect, RoundEvent, RoundMessage, SubmittedUpdate } from "./round-events.ts";
import {
  type AcceptedUpdate,
  currentRelease,
  eligibleSites,
  evolve,
  type StudyState,
} from "./study-state.ts";

export function decide(state: StudyState, event: RoundEvent, context: RoundContext): RoundEffect[] {
  if (state.phase === "finished") return afterTheEnd(state, event, context);
  switch (event.kind) {
    case "started":
    case "timer":
      return goOn(state, event.nowMs, context);
    case "sites-changed":
      return onSitesChanged(state, event.nowMs, context);
    case "hello":
      return [...owed(state, event.site, event.nowMs, context), ...owedRelease(state, event.site)];
    case "approved":
      return onApproved(state, event, context);
    case "update":
      return onUpdate(state, event, context);
    case "update-refused":
      return refuse(state, event.site, event.round, event.update, event.code);
    case "aggregated":
      return onAggregated(state, event, context);
    case "evaluated":
      return onEvaluated(state, event, context);
    case "abort-round":
      return abandon(state, "operator", event.nowMs, context);
    case "finish":
      return [
        ...(isOpen(state)
          ? [append({ kind: "round.abandoned", study: state.study, round: state.round, reason: "operator" })]
          : []),
        ...finish(state, "operator", { nowMs: event.nowMs, context }),
      ];
  }
}

/** The reason why an update would be refused now, cheapest first; null when it would be accepted. */
export function objection(
  state: StudyState,
  update: Omit<SubmittedUpdate, "envelope">,
  context: RoundContext,
): ProtocolErrorCode | null {
  if (update.plan !== context.planDigest) return "plan.stale";
  if (!context.isActive(update.site)) return "site.not-active";
  const approved = state.approvals.get(update.site);
  if (approved === undefined) return "plan.not-approved";
  if (state.phase !== "training" || update.round !== state.round) return "round.closed";
  if (!state.cohort.includes(update.site)) return "round.not-invited";
  if (update.baseVersion !== state.last) return "version.stale";
  if (update.examples > approved) return "update.examples-exceeded";
  const refused = state.refused.get(update.site);
  const before = refused?.get(update.update);
  if (before && isProtocolErrorCode(before)) return before;
  if ((refused?.size ?? 0) >= refusalsPerRoundMax) return "update.refusals-exhausted";
  const accepted = state.accepted.get(update.site);
  return accepted && accepted.update !== update.update ? "update.duplicate" : null;
}

function onUpdate(
  state: StudyState,
  event: Extract<RoundEvent, { kind: "update" }>,
  context: RoundContext,
): RoundEffect[] {
  const { site, round, delta, update, examples, envelope } = event;
  const settled = send(site, { kind: "update.settled", study: state.study, round, outcome: "accepted" });
  // A retry is answered, never counted again, also when its round has ended since.
  if (state.latestAccepted.get(site) === update) return [settled];
  const code = objection(state, event, context);
  if (code) return refuse(state, site, round, update, code);
  const accepted = append({
    kind: "update.accepted",
    study: state.study,
    round,
    site,
    delta,
    update,
    examples,
    envelope,
  });
  const next = evolve(state, accepted.record);
  return [accepted, settled, ...goOn(next, event.nowMs, context)];
}

function refuse(
  state: StudyState,
  site: SiteId,
  round: number,
  update: Sha256,
  code: ProtocolErrorCode,
): RoundEffect[] {
  const recorded = state.refused.get(site);
  const settle = (outcome: ProtocolErrorCode): RoundEffect =>
    send(site, { kind: "update.settled", study: state.study, round, outcome });
  // What trying again can mend is answered and leaves no trace: the same update may yet be accepted.
  if (recorded?.has(update) || code === "update.blob-missing") return [settle(code)];
  if ((recorded?.size ?? 0) >= refusalsPerRoundMax) return [settle("update.refusals-exhausted")];
  return [append({ kind: "update.refused", study: state.study, round, site, code, update }), settle(code)];
}

function onApproved(
  state: StudyState,
  event: Extract<RoundEvent, { kind: "approved" }>,
  context: RoundContext,
): RoundEffect[] {
  const { site, plan, examples, envelope } = event;
  if (plan !== context.planDigest || !context.plan.sites.includes(site) || !context.isActive(site)) return [];
  if (state.approvals.has(site)) return owed(state, site, event.nowMs, context);
  const approved = append({ kind: "plan.approved", study: state.study, site, examples, envelope });
  return [approved, ...goOn(evolve(state, approved.record), event.nowMs, context)];
}

function onAggregated(
  state: StudyState,
  event: Extract<RoundEvent, { kind: "aggregated" }>,
  context: RoundContext,
): RoundEffect[] {
  if (state.phase !== "aggregating" || event.round !== state.round) return [];
  const evaluateUntilMs = event.nowMs + context.plan.rounds.evaluationMs;
  const { round, version, weights, envelope } = event;
  const created = append({
    kind: "version.created",
    study: state.study,
    round,
    version,
    weights,
    evaluateUntilMs,
    envelope,
  });
  const next = evolve(state, created.record);
  const offers = eligible(next, context).map((site) => offerEvaluation(next, site, event.nowMs, context));
  return [created, ...offers, ...goOn(next, event.nowMs, context)];
}

function onEvaluated(
  state: StudyState,
  event: Extract<RoundEvent, { kind: "evaluated" }>,
  context: RoundContext,
): RoundEffect[] {
  const { site, version, meanDice, envelope } = event;
  const settle = (outcome: "accepted" | ProtocolErrorCode): RoundEffect =>
    send(site, { kind: "evaluation.settled", study: state.study, version, outcome });
  if (state.versions.get(version)?.scores.has(site)) return [settle("accepted")];
  if (state.phase !== "evaluating" || state.candidate !== version) return [settle("evaluation.closed")];
  if (!eligible(state, context).includes(site)) return [settle("site.not-active")];
  const reported = append({
    kind: "evaluation.reported",
    study: state.study,
    version,
    site,
    meanDice,
    envelope,
  });
  return [reported, settle("accepted"), ...goOn(evolve(state, reported.record), event.nowMs, context)];
}

/** Take every step that the state and the time allow, until one has to be waited for. */
function goOn(state: StudyState, nowMs: number, context: RoundContext): RoundEffect[] {
  switch (state.phase) {
    case "waiting":
      return goOnWaiting(state, nowMs, context);
    case "training":
      return goOnTraining(state, nowMs, context);
    case "aggregating":
      return [aggregation(state)];
    case "evaluating":
      return goOnEvaluating(state, nowMs, context);
    case "finished":
      return [];
  }
}

function goOnWaiting(state: StudyState, nowMs: number, context: RoundContext): RoundEffect[] {
  const { plan } = context;
  if (state.openedPlan === null || state.last === null) return [];
  if (state.completedRounds >= plan.rounds.count) return finish(state, "rounds-complete", { nowMs, context });
  if (state.abandonedInARow >= plan.rounds.abandonedInARowMax)
    return finish(state, "abandoned", { nowMs, context });
  const sites = eligible(state, context);
  const recruiting = state.round === 0 && sites.length < plan.sites.length && nowMs < state.recruitUntilMs;
  if (recruiting) return [{ kind: "timer", atMs: state.recruitUntilMs }];
  if (sites.length < plan.rounds.quorum) return []; // The next approval or resumption looks again.
  const opened = append({
    kind: "round.opened",
    study: state.study,
    round: state.round + 1,
    baseVersion: state.last,
    deadlineMs: nowMs + roundDurationMs(state, plan),
    sites,
  });
  const next = evolve(state, opened.record);
  return [
    opened,
    { kind: "timer", atMs: next.deadlineMs },
    ...sites.map((site) => offerRound(next, site, nowMs, context)),
  ];
}

/** Sites slower than the round would never reach quorum: each abandoned round doubles the next one. */
function roundDurationMs(state: StudyState, plan: StudyPlan): number {
  return Math.min(plan.rounds.trainingMs * 2 ** Math.min(state.abandonedInARow, 30), roundDurationMsMax);
}

function goOnTraining(state: StudyState, nowMs: number, context: RoundContext): RoundEffect[] {
  const { quorum } = context.plan.rounds;
  const awaited = state.cohort.filter((site) => !state.accepted.has(site) && mayAct(state, site, context));
  const timeUp = nowMs >= state.deadlineMs;
  if (state.accepted.size >= quorum && (awaited.length === 0 || timeUp)) return close(state);
  if (state.accepted.size + awaited.length < quorum) return abandon(state, "quorum-lost", nowMs, context);
  return timeUp ? abandon(state, "deadline", nowMs, context) : [{ kind: "timer", atMs: state.deadlineMs }];
}

function close(state: StudyState): RoundEffect[] {
  const accepted = acceptedInOrder(state);
  const missing = state.cohort.filter((site) => !state.accepted.has(site));
  const closed = append({ kind: "round.closed", study: state.study, round: state.round, accepted, missing });
  return [closed, aggregation(evolve(state, closed.record))];
}

function abandon(
  state: StudyState,
  reason: "deadline" | "quorum-lost" | "operator",
  nowMs: number,
  context: RoundContext,
): RoundEffect[] {
  if (!isOpen(state)) return [];
  const abandoned = append({ kind: "round.abandoned", study: state.study, round: state.round, reason });
  return [abandoned, ...goOn(evolve(state, abandoned.record), nowMs, context)];
}

function goOnEvaluating(state: StudyState, nowMs: number, context: RoundContext): RoundEffect[] {
  const candidate = state.candidate ? state.versions.get(state.candidate) : undefined;
  if (!candidate) return [];
  const awaited = eligible(state, context).filter((site) => !candidate.scores.has(site));
  if (awaited.length > 0 && nowMs < state.deadlineMs) return [{ kind: "timer", atMs: state.deadlineMs }];
  const judgement = judge(candidate.scores, state.best, context.plan.acceptance);
  const judged = append({
    kind: "version.judged",
    study: state.study,
    version: candidate.version,
    ...judgement,
  });
  return [judged, ...goOn(evolve(state, judged.record), nowMs, context)];
}

function finish(
  state: StudyState,
  reason: "rounds-complete" | "abandoned" | "operator",
  { nowMs, context }: { nowMs: number; context: RoundContext },
): RoundEffect[] {
  if (state.last === null) return [];
  const best = state.best?.version ?? null;
  const finished = append({
    kind: "study.finished",
    study: state.study,
    reason,
    best,
    last: state.last,
    finishedAtMs: nowMs,
  });
  return [
    finished,
    ...context.plan.sites.map((site) => send(site, { kind: "study.finished", study: state.study })),
  ];
}

/** Everything that a site which just said hello still has to do in this study. */
function owed(state: StudyState, site: SiteId, nowMs: number, context: RoundContext): RoundEffect[] {
  if (!context.plan.sites.includes(site) || !context.isActive(site) || state.withdrawnSites.has(site))
    return [];
  if (!state.approvals.has(site))
    return [send(site, { kind: "study.invitation", study: state.study, plan: context.planDigest })];
  if (state.phase === "training" && state.cohort.includes(site)) {
    const settled: RoundMessage = {
      kind: "update.settled",
      study: state.study,
      round: state.round,
      outcome: "accepted",
    };
    return [state.accepted.has(site) ? send(site, settled) : offerRound(state, site, nowMs, context)];
  }
  const reported = state.candidate && state.versions.get(state.candidate)?.scores.has(site);
  return state.phase === "evaluating" && !reported ? [offerEvaluation(state, site, nowMs, context)] : [];
}

/** A site that was resumed in mid-round learns at once what it owes. */
function onSitesChanged(state: StudyState, nowMs: number, context: RoundContext): RoundEffect[] {
  const effects = goOn(state, nowMs, context);
  const records = effects.flatMap((effect) => (effect.kind === "append" ? [effect.record] : []));
  const after = records.reduce(evolve, state);
  if (after.round !== state.round || after.phase === "finished") return effects; // They have just been told.
  return [...effects, ...context.plan.sites.flatMap((site) => owed(after, site, nowMs, context))];
}

function afterTheEnd(state: StudyState, event: RoundEvent, { plan }: RoundContext): RoundEffect[] {
  if (event.kind === "hello") {
    if (!plan.sites.includes(event.site)) return []; // Others need not know that there was such a study.
    return [
      send(event.site, { kind: "study.finished", study: state.study }),
      ...owedRelease(state, event.site),
    ];
  }
  if (event.kind !== "update") return [];
  const accepted = state.latestAccepted.get(event.site) === event.update;
  return [
    send(event.site, {
      kind: "update.settled",
      study: state.study,
      round: event.round,
      outcome: accepted ? "accepted" : "round.closed",
    }),
  ];
}

/** The release in use, or that there is none any more, for a site that has not said that it follows. */
function owedRelease(state: StudyState, site: SiteId): RoundEffect[] {
  const released = currentRelease(state);
  if (!state.approvals.has(site) || (state.installed.get(site) ?? null) === released) return [];
  return [send(site, { kind: "version.released", study: state.study, released })];
}

function offerRound(
  state: StudyState,
  site: SiteId,
  nowMs: number,
  { planDigest }: RoundContext,
): RoundEffect {
  const { study, round, completedRounds } = state;
  const base = state.last as ModelVersionId; // A round is only opened on a version.
  const remainingMs = Math.max(0, state.deadlineMs - nowMs);
  return send(site, {
    kind: "round.offer",
    study,
    plan: planDigest,
    round,
    base,
    completedRounds,
    remainingMs,
  });
}

function offerEvaluation(
  state: StudyState,
  site: SiteId,
  nowMs: number,
  { planDigest }: RoundContext,
): RoundEffect {
  const candidate = state.candidate as ModelVersionId; // The phase is `evaluating` only while there is a candidate.
  const remainingMs = Math.max(0, state.deadlineMs - nowMs);
  return send(site, {
    kind: "evaluation.offer",
    study: state.study,
    plan: planDigest,
    candidate,
    remainingMs,
  });
}

function aggregation(state: StudyState): RoundEffect {
  const base = state.last as ModelVersionId; // A round is only opened on a version.
  return { kind: "aggregate", round: state.round, base, accepted: acceptedInOrder(state) };
}

/** Updates in the order of site names: the order of summation, whatever the order of arrival. */
export function acceptedInOrder(state: StudyState): AcceptedUpdate[] {
  return [...state.accepted.values()].sort((a, b) => (a.site < b.site ? -1 : 1));
}

const eligible = (state: StudyState, context: RoundContext): SiteId[] =>
  eligibleSites(state, context.plan, context.isActive);

const mayAct = (state: StudyState, site: SiteId, context: RoundContext): boolean =>
  context.isActive(site) && !state.withdrawnSites.has(site);

const isOpen = (state: StudyState): boolean =>
  state.phase === "training" || state.phase === "aggregating" || state.phase === "evaluating";

type Append = Extract<RoundEffect, { kind: "append" }>;
function append(record: StudyRecord): Append {
  return { kind: "append", record };
}

function send(to: SiteId, message: RoundMessage): RoundEffect {
  return { kind: "send", to, message };
}
