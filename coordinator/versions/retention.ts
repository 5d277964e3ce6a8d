// The retention rule of a plan: the tensors of a finished study's updates are deleted after so many days. The record
// comes first, so an auditor can tell a deleted blob from a lost one.

import type { Sha256 } from "@consilium/shared/base/brand.ts";
import type { Clock } from "@consilium/shared/base/clock.ts";
import { dayMs } from "@consilium/shared/base/units.ts";
import type { StudyState } from "@consilium/shared/protocol/study-state.ts";
import type { AuditLog } from "../audit/audit-log.ts";
import type { PlanBook } from "../rounds/plan-book.ts";
import type { ArtifactStore } from "./artifact-store.ts";

/** Digests in one record. */
const blobsPerRecordMax = 1000;

export type RetentionPorts = {
  readonly log: AuditLog;
  readonly plans: PlanBook;
  readonly artifacts: ArtifactStore;
  readonly clock: Clock;
};

/** @returns the number of blobs deleted now */
export async function sweepRetention({ log, plans, artifacts, clock }: RetentionPorts): Promise<number> {
  let deleted = 0;
  for (const study of log.state.studies.values()) {
    if (study.phase !== "finished" || study.finishedAtMs === null || !log.state.plans.has(study.study))
      continue;
    const { updateDays } = plans.find(log.state, study.study).plan.retention;
    if (updateDays === null || clock.nowMs() < study.finishedAtMs + updateDays * dayMs) continue;
    const due = dueBlobs(study);
    for (let at = 0; at < due.length; at += blobsPerRecordMax) {
      const blobs = due.slice(at, at + blobsPerRecordMax);
      await log.append(() => [{ kind: "blobs.deleted", study: study.study, rule: "retention", blobs }]);
    }
    // Also what an earlier sweep recorded and was killed before deleting.
    for (const blob of log.state.studies.get(study.study)?.deletedBlobs ?? []) {
      if (artifacts.size(blob) === null) continue;
      artifacts.delete(blob);
      deleted += 1;
    }
  }
  return deleted;
}

/** Updates that no record has deleted yet; a blob that is also some version's weights is never an update to delete. */
function dueBlobs(study: StudyState): Sha256[] {
  const weights = new Set([...study.versions.values()].map((version) => version.weights.sha256));
  return [...study.acceptedDeltas]
    .filter((blob) => !study.deletedBlobs.has(blob) && !weights.has(blob))
    .sort();
}
