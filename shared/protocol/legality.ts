// The rules of the log, stated a second time and independently of the machine that writes it: may this entry follow
// those before it? The offline verifier, fsck and the simulator ask; the coordinator's own decisions never do.

import type { SiteId } from "../base/brand.ts";
import type { StudyPlan } from "../model/study-plan.ts";
import { type FederationState, isActiveSite } from "./federation.ts";
import { judge } from "./promotion.ts";
import {
  type FederationRecord,
  isStudyRecord,
  type LogEntry,
  type RecordOf,
  type StudyRecord,
} from "./records.ts";
import {
  currentRelease,
  eligibleSites,
  initialStudyState,
  type StudyState,
  versionsWith,
} from "./study-state.ts";

/**
 * What is wrong with `entry` as the next one after `state`; empty when it is legal. `plan` is the opened plan of the
 * entry's study, null before the study is opened. Signatures are checked elsewhere.
 */
export function illegalities(
  state: FederationState,
  { record, atMs }: LogEntry,
  plan: StudyPlan | null,
): string[] {
  if (!isStudyRecord(record)) return federationFaults(state, record, atMs);
  const study = state.studies.get(record.study) ?? initialStudyState(record.study);
  const isActive = isActiveSite(state);
  if (record.kind === "version.created" && record.round === 0) {
    return unless(study.versions.size === 0, "a second start version");
  }
  if (record.kind === "study.opened") {
    return [
      ...unless(study.openedPlan === null, "the study was opened before"),
      ...unless(study.last !== null, "no start version"),
    ];
  }
  if (!plan) return ["the study has not been opened"];
  const settled = [
    "version.released",
    "release.rolled-back",
    "version.installed",
    "contribution.withdrawn",
    "blobs.deleted",
    "update.refused",
  ];
  if (study.phase === "finished" && !settled.includes(record.kind)) return ["the study has finished"];
  return studyFaults(study, record, { plan, isActive });
}

type Rules = { readonly plan: StudyPlan; readonly isActive: (site: SiteId) => boolean };

function federationFaults(state: FederationState, record: FederationRecord, atMs: number): string[] {
  const { sites, invitations } = state.enrolment;
  if (record.kind === "log.opened")
    return unless(state.size === 0, "a log is opened once, by its first entry");
  if (state.opened === null) return ["a log begins with log.opened"];
  switch (record.kind) {
    case "site.invited":
      return [
        ...unless(!sites.has(record.site), "the site is enrolled"),
        ...unless(!invitations.has(record.invitation), "the invitation was given before"),
      ];
    case "site.enrolled": {
      const invitation = invitations.get(record.invitation);
      return [
        ...unless(!sites.has(record.site), "the site was enrolled before"),
        ...unless(invitation?.site === record.site && !invitation.used, "no unused invitation of that site"),
        ...unless((invitation?.expiresAtMs ?? 0) > atMs, "the invitation had expired"),
      ];
    }
    case "document.refused":
    case "witness.alarmed":
      return unless(sites.has(record.site), "no such site");
    default: {
      const status = sites.get(record.site)?.status;
      const wanted = { "site.suspended": "suspended", "site.resumed": "active", "site.retired": "retired" }[
        record.kind
      ];
      return unless(
        status !== undefined && status !== "retired" && status !== wanted,
        "the site cannot change to that status",
      );
    }
  }
}

function studyFaults(study: StudyState, record: StudyRecord, rules: Rules): string[] {
  switch (record.kind) {
    case "plan.approved":
      return [
        ...unless(
          rules.plan.sites.includes(record.site) && rules.isActive(record.site),
          "not an active site of the study",
        ),
        ...unless(!study.approvals.has(record.site), "approved before"),
      ];
    case "round.opened":
      return roundOpenedFaults(study, record, rules);
    case "update.accepted":
      return acceptedFaults(study, record, rules);
    case "update.refused":
      return unless(rules.plan.sites.includes(record.site), "not a site of the study");
    case "round.closed":
      return roundClosedFaults(study, record, rules);
    case "round.abandoned":
      return [
        ...unless(["training", "aggregating", "evaluating"].includes(study.phase), "no round is open"),
        ...unless(record.round === study.round, "another round"),
      ];
    case "version.created":
      return [
        ...unless(study.phase === "aggregating" && record.round === study.round, "no closed round"),
        ...unless(!study.versions.has(record.version), "the version exists"),
      ];
    case "evaluation.reported":
    case "version.judged":
      return evaluationFaults(study, record, rules);
    default:
      return afterwardsFaults(study, record);
  }
}

function roundOpenedFaults(
  study: StudyState,
  record: RecordOf<"round.opened">,
  { plan, isActive }: Rules,
): string[] {
  const eligible = eligibleSites(study, plan, isActive);
  return [
    ...unless(study.phase === "waiting", "the round before is still open"),
    ...unless(record.round === study.round + 1, "rounds are numbered without gaps"),
    ...unless(record.baseVersion === study.last, "the base is not the newest standing version"),
    ...unless(study.completedRounds < plan.rounds.count, "all rounds of the plan are complete"),
    ...unless(
      record.sites.length >= plan.rounds.quorum && record.sites.every((site) => eligible.includes(site)),
      "not a quorum of eligible sites",
    ),
    ...unless(new Set(record.sites).size === record.sites.length, "a site is invited twice"),
  ];
}

function acceptedFaults(
  study: StudyState,
  record: RecordOf<"update.accepted">,
  { isActive }: Rules,
): string[] {
  return [
    ...unless(study.phase === "training" && record.round === study.round, "the round is not open"),
    ...unless(study.cohort.includes(record.site), "the site was not invited"),
    ...unless(isActive(record.site), "the site is not active"),
    ...unless(!study.accepted.has(record.site), "the site is counted twice"),
    ...unless(record.examples <= (study.approvals.get(record.site) ?? 0), "more examples than approved"),
  ];
}

function roundClosedFaults(study: StudyState, record: RecordOf<"round.closed">, { plan }: Rules): string[] {
  const listed = record.accepted.map((one) => `${one.site} ${one.delta} ${one.update} ${one.examples}`);
  const recorded = [...study.accepted.values()]
    .map((one) => `${one.site} ${one.delta} ${one.update} ${one.examples}`)
    .sort();
  const absent = study.cohort.filter((site) => !study.accepted.has(site));
  return [
    ...unless(study.phase === "training" && record.round === study.round, "the round is not open"),
    ...unless(
      listed.join("\n") === recorded.join("\n"),
      "the accepted updates are not those recorded, in the order of site names",
    ),
    ...unless(record.accepted.length >= plan.rounds.quorum, "no quorum"),
    ...unless(absent.join() === record.missing.join(), "the missing sites are not those that sent nothing"),
  ];
}

function evaluationFaults(
  study: StudyState,
  record: RecordOf<"evaluation.reported"> | RecordOf<"version.judged">,
  rules: Rules,
): string[] {
  const candidate = study.candidate ? study.versions.get(study.candidate) : undefined;
  if (study.phase !== "evaluating" || candidate?.version !== record.version)
    return ["the version is not being evaluated"];
  if (record.kind === "evaluation.reported") {
    return [
      ...unless(
        eligibleSites(study, rules.plan, rules.isActive).includes(record.site),
        "not an eligible site",
      ),
      ...unless(!candidate.scores.has(record.site), "reported before"),
    ];
  }
  const expected = judge(candidate.scores, study.best, rules.plan.acceptance);
  const same =
    expected.promoted === record.promoted &&
    expected.meanDice === record.meanDice &&
    expected.reason === record.reason;
  return unless(same, "the acceptance rule gives another judgement");
}

function afterwardsFaults(study: StudyState, record: StudyRecord): string[] {
  switch (record.kind) {
    case "study.finished":
      return [
        ...unless(study.phase === "waiting", "a round is open"),
        ...unless(
          record.last === study.last && record.best === (study.best?.version ?? null),
          "best or last is another version",
        ),
      ];
    case "version.released": {
      const version = study.versions.get(record.version);
      return unless(
        version !== undefined && version.round > 0 && version.judged !== "pending" && !version.withdrawn,
        "not a version that may be released",
      );
    }
    case "release.rolled-back":
      return [
        ...unless(record.from === currentRelease(study), "not the version in use"),
        ...unless(
          record.to === null || (record.to !== record.from && study.released.includes(record.to)),
          "never released",
        ),
      ];
    case "version.installed":
      return unless(record.version === null || study.versions.has(record.version), "no such version");
    case "contribution.withdrawn":
      return unless(
        versionsWith(study, record.site).join() === record.versions.join(),
        "not the versions that the contribution reached",
      );
    case "blobs.deleted":
      return unless(study.phase === "finished", "the study has not finished");
    default:
      return [];
  }
}

function unless(holds: boolean, fault: string): string[] {
  return holds ? [] : [fault];
}
