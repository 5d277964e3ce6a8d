// What a study's records add up to. `evolve` is the only way to change it; recovery is a fold.

import type { ModelVersionId, Sha256, SiteId, StudyId } from "../base/brand.ts";
import type { StudyPlan } from "../model/study-plan.ts";
import type { SiteScores, Standing } from "./promotion.ts";
import type { RecordOf, StudyRecord } from "./records.ts";

/**
 * waiting: no round is open (recruiting before the first, or too few sites). training: updates are taken.
 * aggregating: the accepted set is fixed. evaluating: sites score the candidate. finished: nothing follows.
 */
export type StudyPhase = "waiting" | "training" | "aggregating" | "evaluating" | "finished";

export type AcceptedUpdate = {
  readonly site: SiteId;
  readonly delta: Sha256;
  readonly update: Sha256;
  readonly examples: number;
};

export type VersionState = {
  readonly version: ModelVersionId;
  /** 0 for the start version. */
  readonly round: number;
  readonly parent: ModelVersionId | null;
  readonly weights: { readonly sha256: Sha256; readonly bytes: number };
  readonly contributors: readonly SiteId[];
  readonly judged: "pending" | "promoted" | "rejected";
  readonly meanDice: number | null;
  readonly scores: SiteScores;
  readonly withdrawn: boolean;
};

export type StudyState = {
  readonly study: StudyId;
  readonly phase: StudyPhase;
  readonly openedPlan: Sha256 | null;
  readonly recruitUntilMs: number;
  /** Training cases that each approving site brings. */
  readonly approvals: ReadonlyMap<SiteId, number>;
  /** Number of the current or latest round; 0 before the first. */
  readonly round: number;
  readonly completedRounds: number;
  readonly abandonedInARow: number;
  readonly deadlineMs: number;
  /** The version that the current or latest round started from, and the deadline it was opened with. */
  readonly baseVersion: ModelVersionId | null;
  readonly openedDeadlineMs: number;
  readonly cohort: readonly SiteId[];
  readonly accepted: ReadonlyMap<SiteId, AcceptedUpdate>;
  /** The latest accepted update of each site, also of earlier rounds: a late retry is answered with it. */
  readonly latestAccepted: ReadonlyMap<SiteId, Sha256>;
  /** The refused submissions of this round by site, with the code that each was refused with. */
  readonly refused: ReadonlyMap<SiteId, ReadonlyMap<Sha256, string>>;
  readonly candidate: ModelVersionId | null;
  readonly versions: ReadonlyMap<ModelVersionId, VersionState>;
  /** Newest version whose lineage holds no withdrawn contribution: the base of the next round. */
  readonly last: ModelVersionId | null;
  readonly best: Standing | null;
  readonly released: readonly ModelVersionId[];
  /** The version that each site last reported to have put into use. */
  /** The version that each site says it uses; null once it has taken the last one out of use. */
  readonly installed: ReadonlyMap<SiteId, ModelVersionId | null>;
  /** Sites whose contribution was withdrawn from this study. */
  readonly withdrawnSites: ReadonlySet<SiteId>;
  /** Every delta that was ever accepted, and those that the retention rule has deleted since. */
  readonly acceptedDeltas: ReadonlySet<Sha256>;
  readonly deletedBlobs: ReadonlySet<Sha256>;
  readonly finishedAtMs: number | null;
};

export function initialStudyState(study: StudyId): StudyState {
  return {
    study,
    phase: "waiting",
    openedPlan: null,
    recruitUntilMs: 0,
    approvals: new Map(),
    round: 0,
    completedRounds: 0,
    abandonedInARow: 0,
    deadlineMs: 0,
    baseVersion: null,
    openedDeadlineMs: 0,
    cohort: [],
    accepted: new Map(),
    latestAccepted: new Map(),
    refused: new Map(),
    candidate: null,
    versions: new Map(),
    last: null,
    best: null,
    released: [],
    installed: new Map(),
    withdrawnSites: new Set(),
    acceptedDeltas: new Set(),
    deletedBlobs: new Set(),
    finishedAtMs: null,
  };
}

/** Fold one durable record into the state. */
export function evolve(state: StudyState, record: StudyRecord): StudyState {
  switch (record.kind) {
    case "study.opened":
      return { ...state, openedPlan: record.plan, recruitUntilMs: record.recruitUntilMs };
    case "plan.approved":
      return { ...state, approvals: new Map(state.approvals).set(record.site, record.examples) };
    case "round.opened":
      return onRoundOpened(state, record);
    case "update.accepted": {
      const { site, delta, update, examples } = record;
      const accepted = new Map(state.accepted).set(site, { site, delta, update, examples });
      const latestAccepted = new Map(state.latestAccepted).set(site, update);
      return { ...state, accepted, latestAccepted, acceptedDeltas: new Set(state.acceptedDeltas).add(delta) };
    }
    case "update.refused": {
      const refused = new Map(state.refused.get(record.site)).set(record.update, record.code);
      return { ...state, refused: new Map(state.refused).set(record.site, refused) };
    }
    case "round.closed":
      return { ...state, phase: "aggregating" };
    case "round.abandoned":
      return { ...state, phase: "waiting", abandonedInARow: state.abandonedInARow + 1, candidate: null };
    case "version.created":
      return onVersionCreated(state, record);
    case "evaluation.reported":
      return onReported(state, record);
    case "version.judged":
      return onJudged(state, record);
    case "study.finished":
      return { ...state, phase: "finished", finishedAtMs: record.finishedAtMs };
    case "version.released":
      return { ...state, released: [...state.released, record.version] };
    case "release.rolled-back":
      return { ...state, released: releasesUpTo(state, record.to) };
    case "contribution.withdrawn":
      return onWithdrawn(state, record);
    case "blobs.deleted":
      return { ...state, deletedBlobs: new Set([...state.deletedBlobs, ...record.blobs]) };
    case "version.installed":
      return { ...state, installed: new Map(state.installed).set(record.site, record.version) };
  }
}

function onRoundOpened(state: StudyState, record: RecordOf<"round.opened">): StudyState {
  const { round, baseVersion, deadlineMs, sites } = record;
  return {
    ...state,
    phase: "training",
    round,
    deadlineMs,
    baseVersion,
    openedDeadlineMs: deadlineMs,
    cohort: sites,
    accepted: new Map(),
    refused: new Map(),
    candidate: null,
  };
}

function onVersionCreated(state: StudyState, record: RecordOf<"version.created">): StudyState {
  const { version, round, weights, evaluateUntilMs } = record;
  const created: VersionState = {
    version,
    round,
    parent: round === 0 ? null : state.last,
    weights,
    contributors: round === 0 ? [] : [...state.accepted.keys()].sort(),
    judged: "pending",
    meanDice: null,
    scores: new Map(),
    withdrawn: false,
  };
  const versions = new Map(state.versions).set(version, created);
  if (round === 0) return { ...state, versions, last: version };
  const counted = { completedRounds: state.completedRounds + 1, abandonedInARow: 0 };
  return {
    ...state,
    ...counted,
    versions,
    last: version,
    candidate: version,
    phase: "evaluating",
    deadlineMs: evaluateUntilMs,
  };
}

function onReported(
  state: StudyState,
  { version, site, meanDice }: RecordOf<"evaluation.reported">,
): StudyState {
  return withVersion(state, version, (one) => ({ ...one, scores: new Map(one.scores).set(site, meanDice) }));
}

function onJudged(
  state: StudyState,
  { version, promoted, meanDice }: RecordOf<"version.judged">,
): StudyState {
  const judged = promoted ? "promoted" : "rejected";
  const next = withVersion(state, version, (one) => ({ ...one, judged, meanDice }));
  return { ...next, phase: "waiting", candidate: null, best: standing(next) };
}

function onWithdrawn(state: StudyState, record: RecordOf<"contribution.withdrawn">): StudyState {
  let next: StudyState = { ...state, withdrawnSites: new Set(state.withdrawnSites).add(record.site) };
  for (const version of record.versions)
    next = withVersion(next, version, (one) => ({ ...one, withdrawn: true }));
  const usable = [...next.versions.values()].filter((one) => !one.withdrawn);
  const last = usable.at(-1)?.version ?? null; // Versions are kept in the order of their creation.
  return { ...next, last, best: standing(next) };
}

/** The best version is the latest promoted one that stands: promotion compares with the best before it. */
function standing(state: StudyState): Standing | null {
  const promoted = [...state.versions.values()].filter((one) => one.judged === "promoted" && !one.withdrawn);
  const best = promoted.at(-1);
  return best && best.meanDice !== null
    ? { version: best.version, meanDice: best.meanDice, scores: best.scores }
    : null;
}

function withVersion(
  state: StudyState,
  id: ModelVersionId,
  change: (one: VersionState) => VersionState,
): StudyState {
  const version = state.versions.get(id);
  return version ? { ...state, versions: new Map(state.versions).set(id, change(version)) } : state;
}

/** Sites that may take part in the next round, in the order of names. */
export function eligibleSites(
  state: StudyState,
  plan: StudyPlan,
  isActive: (site: SiteId) => boolean,
): SiteId[] {
  return plan.sites
    .filter((site) => state.approvals.has(site) && isActive(site) && !state.withdrawnSites.has(site))
    .sort();
}

/** Versions whose lineage holds a contribution of `site`. */
export function versionsWith(state: StudyState, site: SiteId): ModelVersionId[] {
  const tainted = new Set<ModelVersionId>();
  for (const one of state.versions.values()) {
    if (one.contributors.includes(site) || (one.parent !== null && tainted.has(one.parent)))
      tainted.add(one.version);
  }
  return [...tainted];
}

/** Releases are a stack: rolling back takes off everything above the version that is used again. */
function releasesUpTo(state: StudyState, to: ModelVersionId | null): readonly ModelVersionId[] {
  return to === null ? [] : state.released.slice(0, state.released.lastIndexOf(to) + 1);
}

/** The version in use, if any. */
export function currentRelease(state: StudyState): ModelVersionId | null {
  return state.released.at(-1) ?? null;
}
