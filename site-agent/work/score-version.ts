// How well weights do on a site's validation cases: whole volumes on their own grids, or the sample of slices that the
// plan asks for. Scores of single cases are returned to the caller, who is at the site.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { matchLabels } from "../data/label-mapping.ts";
import type { CaseId } from "../data/study-source.ts";
import { type CaseLabelScore, evaluateCase } from "../evaluation/evaluate-case.ts";
import { evaluateSlices, spreadSlices } from "../evaluation/evaluate-slices.ts";
import { type CohortCase, studyLabelmap } from "../preprocessing/prepare-cohort.ts";
import { type Segmenter, segmentVolume } from "./segmenter.ts";
import type { SiteCohort } from "./site-cohort.ts";

export type CaseScores = { readonly id: CaseId; readonly scores: readonly CaseLabelScore[] };

export type Scoring = {
  readonly plan: StudyPlan;
  readonly cohort: Pick<SiteCohort, "source" | "validation">;
  readonly segmenter: Segmenter;
  /** After each case, counted from 1. */
  readonly onCase: (done: number, total: number) => void;
  readonly signal: AbortSignal;
};

export async function scoreCases(scoring: Scoring): Promise<CaseScores[]> {
  const { plan, cohort, onCase, signal } = scoring;
  const results: CaseScores[] = [];
  for (const [index, one] of cohort.validation.entries()) {
    signal.throwIfAborted();
    const { slicesPerCase } = plan.evaluation;
    const scores = slicesPerCase === null ? await scoreVolume(one, scoring) : await scoreSlices(one, scoring);
    results.push({ id: one.id, scores });
    onCase(index + 1, cohort.validation.length);
  }
  return results;
}

async function scoreVolume(
  { id, contoured }: CohortCase,
  { plan, cohort, segmenter }: Scoring,
): Promise<readonly CaseLabelScore[]> {
  const opened = await cohort.source.open(id);
  const truth = studyLabelmap(opened, matchLabels(cohort.source.labelNames, plan.labels));
  const predicted = await segmentVolume(opened.volume, segmenter);
  return evaluateCase(predicted, expectDefined(truth, "labels of a validation case"), contoured);
}

async function scoreSlices(
  { prepared, contoured }: CohortCase,
  { plan, segmenter }: Scoring,
): Promise<readonly CaseLabelScore[]> {
  const indices = spreadSlices(prepared.slices.length, plan.evaluation.slicesPerCase);
  const slices = indices.map((index) => expectDefined(prepared.slices[index], "slice of the sample"));
  const pairs: { predicted: Uint8Array; truth: Uint8Array }[] = [];
  for await (const probabilities of segmenter.predict(prepared.slices, indices)) {
    const { labels } = expectDefined(slices[pairs.length], "slice of a prediction");
    pairs.push({ predicted: mostProbable(probabilities, segmenter.labels), truth: labels });
  }
  return evaluateSlices(pairs, contoured);
}

/** @param probabilities [pixels, classes]; of equals, the earlier class keeps the pixel. */
function mostProbable(probabilities: Float32Array, labels: readonly number[]): Uint8Array {
  const winners = new Uint8Array(probabilities.length / labels.length);
  for (let pixel = 0; pixel < winners.length; pixel += 1) {
    let best = Number.NEGATIVE_INFINITY;
    for (const [index, label] of labels.entries()) {
      const share = probabilities[pixel * labels.length + index] ?? 0;
      if (share <= best) continue;
      best = share;
      winners[pixel] = label;
    }
  }
  return winners;
}
