// What a data folder holds for a study, as a report for its owner: cases by number, never by name.

import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { type CohortCheck, checkCohort } from "../data/check-cohort.ts";
import { matchLabels } from "../data/label-mapping.ts";
import type { CaseId } from "../data/study-source.ts";
import type { DataSelection } from "../work/approvals.ts";
import { selectCases } from "../work/site-cohort.ts";

export type CohortReport = CohortCheck & {
  readonly layout: string;
  readonly training: number;
  readonly validation: number;
  /** The study's labels that this data set does not name; null where it names none or no study is asked about. */
  readonly labelsMissing: readonly string[] | null;
};

/** Opens every case once. @throws FolderError, StudyError */
export async function cohortReport(data: DataSelection, plan: StudyPlan | null): Promise<CohortReport> {
  const { source, training, validation } = await selectCases(data);
  const check = await checkCohort(source);
  const refused = new Set(check.refused.flatMap(({ number }) => source.cases[number - 1]?.id ?? []));
  const readable = (ids: readonly CaseId[]): number => ids.filter((id) => !refused.has(id)).length;
  const missing = plan && source.labelNames ? matchLabels(source.labelNames, plan.labels).missing : null;
  return {
    ...check,
    layout: source.layout,
    training: readable(training),
    validation: readable(validation),
    labelsMissing: missing?.map((id) => plan?.labels.find((label) => label.id === id)?.name ?? "") ?? null,
  };
}

export function cohortLines(report: CohortReport): string[] {
  const { caseCount, readableCount, labelledCount, training, validation, fingerprint } = report;
  const labels = report.labels.map(({ label, name, cases }) => `${name ?? `label ${label}`} (${cases})`);
  return [
    `Data      ${caseCount} cases in ${report.layout} layout, ${readableCount} readable, ${labelledCount} with labels`,
    `          ${training} train, ${validation} validate`,
    ...(validation === 0
      ? ["          NO CASE VALIDATES: name some in a file and give it with --split"]
      : []),
    ...(fingerprint
      ? [
          `          ${fingerprint.modality === "mixed" ? "CT and MR" : fingerprint.modality}, labels and the cases that hold them: ${labels.join(", ")}`,
        ]
      : []),
    ...report.refused.map(({ number, code, remedy }) => `  refused  case ${number}: ${remedy} (${code})`),
    ...report.remarks.map(({ number, code, remark }) => `  remark   case ${number}: ${remark} (${code})`),
    ...(report.labelsMissing?.length
      ? [`  not contoured here: ${report.labelsMissing.join(", ")}; left out of this site's loss and score`]
      : []),
    ...(report.isUsable
      ? []
      : ["  Too many cases cannot be read: the folder is refused until they are repaired."]),
  ];
}
