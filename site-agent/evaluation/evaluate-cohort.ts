// Scores of many cases brought down to what a site may report: a mean per label over the cases that have it, then a mean
// over labels, with small counts hidden. No single score leaves here.

import {
  type EvaluationReport,
  type LabelScore,
  reportedScore,
  smallCount,
} from "@consilium/shared/evaluation/evaluation-report.ts";
import type { CaseLabelScore } from "./evaluate-case.ts";

export interface CohortScores {
  /** Whole volumes, or single slices on which surface distances mean nothing. */
  readonly scope: EvaluationReport["scope"];
  /** One list per case. */
  readonly cases: readonly (readonly CaseLabelScore[])[];
  /** Labels of the study, in its order. */
  readonly labels: readonly number[];
}

export function evaluationReport({ scope, cases, labels }: CohortScores): EvaluationReport {
  const rows = labels.map((label) => labelScore(label, cases.flat()));
  return {
    scope,
    cases: smallCount(cases.length),
    labels: rows,
    meanDice: meanOf(rows.map(({ meanDice }) => meanDice)),
  };
}

function labelScore(label: number, scores: readonly CaseLabelScore[]): LabelScore {
  const mine = scores.filter((score) => score.label === label);
  return {
    label,
    cases: smallCount(mine.length),
    missed: smallCount(mine.filter(({ isMissed }) => isMissed).length),
    meanDice: meanOf(mine.map(({ dice }) => dice)),
    meanHd95Mm: meanOf(mine.map(({ hd95Mm }) => hd95Mm)),
    meanNsd1mm: meanOf(mine.map(({ nsd1mm }) => nsd1mm)),
    meanNsd2mm: meanOf(mine.map(({ nsd2mm }) => nsd2mm)),
  };
}

/** Over the defined values; null where there is none. */
function meanOf(values: readonly (number | null)[]): number | null {
  const defined = values.filter((value) => value !== null);
  if (defined.length === 0) return null;
  return reportedScore(defined.reduce((sum, value) => sum + value, 0) / defined.length);
}
