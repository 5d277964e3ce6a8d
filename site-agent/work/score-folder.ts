// How well a predictor does on the labelled cases of a folder: whole volumes on their own grids, one score per case and
// label, for the site's own eyes. Labels that nobody drew are left out, by the rule of the study.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { contouredLabels } from "../data/contoured-labels.ts";
import { matchLabels } from "../data/label-mapping.ts";
import type { CaseId, OpenedCase, StudySource } from "../data/study-source.ts";
import { type Labelmap, labelsPresent, type Volume } from "../data/volume.ts";
import { evaluateCase } from "../evaluation/evaluate-case.ts";
import { studyLabelmap } from "../preprocessing/prepare-cohort.ts";
import type { CaseScores } from "./score-version.ts";

export type Predictor = (volume: Volume) => Promise<Labelmap>;

export type FolderScoring = {
  readonly plan: Pick<StudyPlan, "labels" | "partialLabels">;
  readonly source: StudySource;
  readonly cases: readonly CaseId[];
  readonly predict: Predictor;
  readonly onCase: (done: number, total: number) => void;
};

export async function scoreFolder({
  plan,
  source,
  cases,
  predict,
  onCase,
}: FolderScoring): Promise<CaseScores[]> {
  const studyLabels = plan.labels.map(({ id }) => id);
  const mapping = matchLabels(source.labelNames, plan.labels);
  const rows: (CaseScores & { inCase: ReadonlySet<number> })[] = [];
  for (const id of cases) {
    const opened: OpenedCase = await source.open(id);
    const truth = expectDefined(studyLabelmap(opened, mapping), "labels of a labelled case");
    const predicted = await predict(opened.volume);
    const inCase = new Set(labelsPresent(truth));
    rows.push({ id, scores: evaluateCase(predicted, truth, studyLabels), inCase });
    onCase(rows.length, cases.length);
  }
  const atSite = new Set(rows.flatMap(({ inCase }) => [...inCase]));
  return rows.map(({ id, scores, inCase }) => {
    const contoured = contouredLabels({ studyLabels, inCase, atSite }, plan.partialLabels);
    return { id, scores: scores.filter(({ label }) => contoured.includes(label)) };
  });
}
