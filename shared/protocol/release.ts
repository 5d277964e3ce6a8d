// Operator decisions about finished versions, pure: release, roll back, and withdraw a site's contribution together
// with everything that grew from it.

import type { ModelVersionId, SiteId } from "../base/brand.ts";
import { ProtocolError } from "./errors.ts";
import type { StudyRecord } from "./records.ts";
import { currentRelease, evolve, type StudyState, versionsWith } from "./study-state.ts";

/**
 * Put a version into use; `null` stands for the study's best.
 * @throws ProtocolError version.unknown, version.wrong-state
 */
export function release(state: StudyState, wanted: ModelVersionId | null, reason: string): StudyRecord[] {
  const id = wanted ?? state.best?.version;
  const version = id ? state.versions.get(id) : undefined;
  if (!version) throw new ProtocolError("version.unknown");
  const usable = version.round > 0 && !version.withdrawn && version.judged !== "pending";
  if (!usable || currentRelease(state) === version.version) throw new ProtocolError("version.wrong-state");
  return [{ kind: "version.released", study: state.study, version: version.version, reason }];
}

/**
 * Go back to the release before this one that still stands, or to none.
 * @throws ProtocolError version.wrong-state when nothing is released
 */
export function rollBack(state: StudyState, reason: string): StudyRecord[] {
  const from = currentRelease(state);
  if (!from) throw new ProtocolError("version.wrong-state");
  const earlier = state.released
    .slice(0, -1)
    .filter((id) => id !== from && !state.versions.get(id)?.withdrawn);
  return [{ kind: "release.rolled-back", study: state.study, from, to: earlier.at(-1) ?? null, reason }];
}

/**
 * A site takes its contribution back: every version that it is part of, directly or through its lineage, is marked
 * withdrawn; a round in progress is abandoned; a withdrawn version does not stay in use.
 * @throws ProtocolError site.wrong-state when the site has no part in the study or was withdrawn before
 */
export function withdrawContribution(state: StudyState, site: SiteId, reason: string): StudyRecord[] {
  if (!state.approvals.has(site) || state.withdrawnSites.has(site))
    throw new ProtocolError("site.wrong-state");
  const versions = versionsWith(state, site);
  const records: StudyRecord[] = [
    { kind: "contribution.withdrawn", study: state.study, site, reason, versions },
  ];
  const inProgress = state.phase !== "waiting" && state.phase !== "finished";
  if (inProgress)
    records.push({ kind: "round.abandoned", study: state.study, round: state.round, reason: "operator" });
  const released = currentRelease(state);
  if (released && versions.includes(released))
    records.push(...rollBack(records.reduce(evolve, state), reason));
  return records;
}
