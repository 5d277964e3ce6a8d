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

/** Several answers for one volume, by name; the truth is for those that are prompted with it. */
export type StagedPredictor = (volume: Volume, truth: Labelmap) => Promise<ReadonlyMap<string, Labelmap>>;

export type FolderScoring<Predict> = {
  readonly plan: Pick<StudyPlan, "labels" | "partialLabels">;
  readonly source: StudySource;
  readonly cases: readonly CaseId[];
  readonly predict: Predict;
  readonly onCase: (done: number, total: number) => void;
};

const ONLY = "only";

export async function scoreFolder({ predict, ...scoring }: FolderScoring<Predictor>): Promise<CaseScores[]> {
  const staged: StagedPredictor = async (volume) => new Map([[ONLY, await predict(volume)]]);
  const scores = await scoreStages({ ...scoring, predict: staged });
  return scores.get(ONLY) ?? [];
}

/** The scores of every answer, by its name. */
export async function scoreStages({
  plan,
  source,
  cases,
  predict,
  onCase,
}: FolderScoring<StagedPredictor>): Promise<Map<string, CaseScores[]>> {
  const studyLabels = plan.labels.map(({ id }) => id);
  const mapping = matchLabels(source.labelNames, plan.labels);
  const rows: { stage: string; scores: CaseScores; inCase: ReadonlySet<number> }[] = [];
  for (const [index, id] of cases.entries()) {
    const opened: OpenedCase = await source.open(id);
    const truth = expectDefined(studyLabelmap(opened, mapping), "labels of a labelled case");
    const inCase = new Set(labelsPresent(truth));
    for (const [stage, predicted] of await predict(opened.volume, truth)) {
      rows.push({ stage, scores: { id, scores: evaluateCase(predicted, truth, studyLabels) }, inCase });
    }
    onCase(index + 1, cases.length);
  }
  const atSite = new Set(rows.flatMap(({ inCase }) => [...inCase]));
  const stages = new Map<string, CaseScores[]>();
  for (const { stage, scores, inCase } of rows) {
    const contoured = contouredLabels({ studyLabels, inCase, atSite }, plan.partialLabels);
    const known = { ...scores, scores: scores.scores.filter(({ label }) => contoured.includes(label)) };
    stages.set(stage, [...(stages.get(stage) ?? []), known]);
  }
  return stages;
}
