// Scores for the site's own eyes: every case by its number, every label by its name, and plain means. Nothing is rounded
// in JSON and no count is hidden, because none of it leaves the house.

import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { CaseLabelScore } from "../evaluation/evaluate-case.ts";
import type { CaseScores } from "../work/score-version.ts";

type Measure = {
  readonly dice: number | null;
  readonly hd95Mm: number | null;
  readonly nsd1mm: number | null;
  readonly nsd2mm: number | null;
};
export type LabelMeans = Measure & {
  readonly label: string;
  readonly cases: number;
  readonly missed: number;
};

export type ScoreTable = {
  readonly cases: readonly {
    readonly case: string;
    readonly labels: readonly (Measure & { label: string; isMissed: boolean })[];
  }[];
  readonly labels: readonly LabelMeans[];
  /** Mean over labels of their means. */
  readonly mean: Measure;
};

export function scoreTable(cases: readonly CaseScores[], { labels }: Pick<StudyPlan, "labels">): ScoreTable {
  const nameOf = (label: number): string => labels.find(({ id }) => id === label)?.name ?? String(label);
  const rows = labels.map(({ id, name }) =>
    labelMeans(
      name,
      cases.flatMap(({ scores }) => scores.filter(({ label }) => label === id)),
    ),
  );
  return {
    cases: cases.map(({ id, scores }) => ({
      case: id,
      labels: scores.map(({ label, dice, hd95Mm, nsd1mm, nsd2mm, isMissed }) => ({
        label: nameOf(label),
        ...{ dice, hd95Mm, nsd1mm, nsd2mm, isMissed },
      })),
    })),
    labels: rows,
    mean: means(rows),
  };
}

function labelMeans(label: string, scores: readonly CaseLabelScore[]): LabelMeans {
  const missed = scores.filter(({ isMissed }) => isMissed).length;
  return { label, cases: scores.length, missed, ...means(scores) };
}

function means(rows: readonly Measure[]): Measure {
  const mean = (values: readonly (number | null)[]): number | null => {
    const defined = values.filter((value) => value !== null);
    return defined.length === 0 ? null : defined.reduce((sum, value) => sum + value, 0) / defined.length;
  };
  return {
    dice: mean(rows.map(({ dice }) => dice)),
    hd95Mm: mean(rows.map(({ hd95Mm }) => hd95Mm)),
    nsd1mm: mean(rows.map(({ nsd1mm }) => nsd1mm)),
    nsd2mm: mean(rows.map(({ nsd2mm }) => nsd2mm)),
  };
}

export function scoreLines(title: string, { labels, mean }: ScoreTable): string[] {
  return [
    `${title.padEnd(28)}${["cases", "missed", "Dice", "HD95 mm", "NSD 1mm", "NSD 2mm"].map((head) => head.padStart(9)).join("")}`,
    ...labels.map((row) => scoreRow(row.label, [String(row.cases), String(row.missed)], row)),
    scoreRow("mean over labels", ["", ""], mean),
  ];
}

function scoreRow(
  label: string,
  counts: readonly string[],
  { dice, hd95Mm, nsd1mm, nsd2mm }: Measure,
): string {
  const numbers = [shown(dice, 4), shown(hd95Mm, 2), shown(nsd1mm, 4), shown(nsd2mm, 4)];
  return `${label.slice(0, 27).padEnd(28)}${[...counts, ...numbers].map((text) => text.padStart(9)).join("")}`;
}

const shown = (value: number | null, digits: number): string =>
  value === null ? "-" : value.toFixed(digits);
