// The whole federation as one fold over its log: who is enrolled, and where every study stands.

import { assert } from "../base/assert.ts";
import type { ModelVersionId, PublicKey, SiteId, StudyId } from "../base/brand.ts";
import { type EnrolmentState, evolveEnrolment, initialEnrolmentState } from "./enrolment.ts";
import { isStudyRecord, type LogEntry, type RecordOf } from "./records.ts";
import { evolve, initialStudyState, type StudyState } from "./study-state.ts";

export type FederationState = {
  /** Entries folded so far: the size of the log. */
  readonly size: number;
  readonly opened: { readonly origin: string; readonly coordinatorKey: PublicKey } | null;
  readonly enrolment: EnrolmentState;
  readonly studies: ReadonlyMap<StudyId, StudyState>;
  /** The signed plan of each study. */
  readonly plans: ReadonlyMap<StudyId, RecordOf<"study.opened">>;
  /** The signed manifest of each version. */
  readonly versions: ReadonlyMap<ModelVersionId, RecordOf<"version.created">>;
};

export const initialFederationState: FederationState = {
  size: 0,
  opened: null,
  enrolment: initialEnrolmentState,
  studies: new Map(),
  plans: new Map(),
  versions: new Map(),
};

/** Fold one log entry. Entries are folded in order, each once. */
export function evolveFederation(state: FederationState, { index, atMs, record }: LogEntry): FederationState {
  assert(index === state.size, `entry ${index} does not follow a log of size ${state.size}`);
  const next = { ...state, size: state.size + 1 };
  if (record.kind === "log.opened") {
    return { ...next, opened: { origin: record.origin, coordinatorKey: record.coordinatorKey } };
  }
  if (!isStudyRecord(record)) return { ...next, enrolment: evolveEnrolment(state.enrolment, record, atMs) };
  const study = state.studies.get(record.study) ?? initialStudyState(record.study);
  const studies = new Map(state.studies).set(record.study, evolve(study, record));
  if (record.kind === "study.opened") {
    return { ...next, studies, plans: new Map(state.plans).set(record.study, record) };
  }
  if (record.kind === "version.created") {
    return { ...next, studies, versions: new Map(state.versions).set(record.version, record) };
  }
  return { ...next, studies };
}

export function isActiveSite(state: FederationState): (site: SiteId) => boolean {
  return (site) => state.enrolment.sites.get(site)?.status === "active";
}
