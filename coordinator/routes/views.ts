// The federation's state as the operator's routes answer it.

import type { StudyId } from "@consilium/shared/base/brand.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import type { SiteAnswer, StudyAnswer, VersionAnswer } from "@consilium/shared/protocol/http.ts";
import { currentRelease, initialStudyState } from "@consilium/shared/protocol/study-state.ts";
import type { Static } from "typebox";
import type { OpenedPlan } from "../rounds/plan-book.ts";
import { recordedManifests } from "../versions/recorded-version.ts";

type IsConnected = (site: string) => boolean;

export function siteAnswers(state: FederationState, isConnected: IsConnected): Static<typeof SiteAnswer>[] {
  return [...state.enrolment.sites.values()].map(({ site, status, publicKey, enrolledAtMs, alarm }) => ({
    site,
    status,
    publicKey,
    enrolledAtMs,
    connected: isConnected(site),
    alarmed: alarm !== null,
  }));
}

export function studyAnswer(
  state: FederationState,
  { plan, digest }: OpenedPlan,
  isConnected: IsConnected,
): StudyAnswer {
  const study = state.studies.get(plan.study) ?? initialStudyState(plan.study);
  return {
    study: plan.study,
    title: plan.title,
    plan: digest,
    phase: study.phase,
    round: study.round,
    rounds: plan.rounds.count,
    completedRounds: study.completedRounds,
    deadlineMs: study.deadlineMs,
    sites: plan.sites.map((site) => ({
      site,
      approvedExamples: study.approvals.get(site) ?? null,
      connected: isConnected(site),
      accepted: study.accepted.has(site),
      withdrawn: study.withdrawnSites.has(site),
    })),
    last: study.last,
    best: study.best?.version ?? null,
    bestMeanDice: study.best?.meanDice ?? null,
    released: currentRelease(study),
  };
}

export function versionAnswers(state: FederationState, id: StudyId): VersionAnswer[] {
  const study = state.studies.get(id);
  if (!study) return [];
  const released = currentRelease(study);
  const manifestOf = recordedManifests(state);
  return [...study.versions.values()].map(
    ({ version, round, parent, contributors, judged, meanDice, weights, withdrawn }) => ({
      study: id,
      version,
      round,
      parent,
      contributors: [...contributors],
      judged,
      meanDice,
      weights,
      released: version === released,
      withdrawn,
      parts: manifestOf(version)?.parts ?? [],
    }),
  );
}
