// What a site's folder holds and what is wrong with it, as plain data for a screen or for JSON. It opens every case
// once and keeps none; cases appear by number only.

import type { CohortFingerprint } from "@consilium/shared/model/cohort-fingerprint.ts";
import { type CaseFingerprint, caseFingerprint, cohortFingerprint } from "./cohort-fingerprint.ts";
import { isReadable, type RefusedCase, readCases } from "./read-cohort.ts";
import type { OpenedCase, StudySource } from "./study-source.ts";

export interface CohortCheck {
  readonly caseCount: number;
  readonly readableCount: number;
  readonly labelledCount: number;
  readonly refused: readonly RefusedCase[];
  readonly remarks: readonly CaseRemark[];
  /** Labels by number: their name where the data set states one, and in how many cases they occur. */
  readonly labels: readonly {
    readonly label: number;
    readonly name: string | null;
    readonly cases: number;
  }[];
  /** Null where no case could be read. */
  readonly fingerprint: CohortFingerprint | null;
  /** Whether enough cases can be read to train or predict with this folder. */
  readonly isUsable: boolean;
}

/** Something about a readable case that its owner should know. */
export interface CaseRemark {
  readonly number: number;
  readonly code: "orientation.unknown" | "voxels.replaced" | "labels.empty";
  readonly remark: string;
}

export async function checkCohort(source: StudySource): Promise<CohortCheck> {
  const refused: RefusedCase[] = [];
  const remarks: CaseRemark[] = [];
  const fingerprints: CaseFingerprint[] = [];
  let labelledCount = 0;
  let number = 0;
  for await (const reading of readCases(source)) {
    number += 1;
    if (reading.kind === "refused") {
      refused.push(reading.refusal);
      continue;
    }
    const { volume, labelmap } = reading.case;
    const fingerprint = caseFingerprint(volume, labelmap);
    fingerprints.push(fingerprint);
    if (labelmap) labelledCount += 1;
    remarks.push(...caseRemarks(number, reading.case, fingerprint));
  }
  const fingerprint = fingerprints.length > 0 ? cohortFingerprint(fingerprints, source.modality) : null;
  return {
    caseCount: source.cases.length,
    readableCount: fingerprints.length,
    labelledCount,
    refused,
    remarks,
    labels: labelRows(source, fingerprint),
    fingerprint,
    isUsable: isReadable(source.cases.length, refused.length),
  };
}

function caseRemarks(number: number, opened: OpenedCase, fingerprint: CaseFingerprint): CaseRemark[] {
  const remarks: CaseRemark[] = [];
  if (opened.orientation === "none") {
    const remark = "the header states no orientation; left and right are a guess";
    remarks.push({ number, code: "orientation.unknown", remark });
  }
  if (opened.replacedVoxels > 0) {
    const remark = `${opened.replacedVoxels} voxels held no finite number and were set to 0`;
    remarks.push({ number, code: "voxels.replaced", remark });
  }
  if (opened.labelmap && fingerprint.labels.length === 0) {
    remarks.push({ number, code: "labels.empty", remark: "the label map holds background only" });
  }
  return remarks;
}

/** Named labels that occur nowhere are listed too: they are the ones this site has not contoured. */
function labelRows(source: StudySource, fingerprint: CohortFingerprint | null): CohortCheck["labels"] {
  const counts = new Map((fingerprint?.labels ?? []).map(({ label, cases }) => [label, cases]));
  const labels = new Set([...(source.labelNames?.keys() ?? []), ...counts.keys()]);
  return [...labels]
    .sort((a, b) => a - b)
    .map((label) => ({ label, name: source.labelNames?.get(label) ?? null, cases: counts.get(label) ?? 0 }));
}
