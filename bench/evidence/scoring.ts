// Scores of the models on the validation cases of all hospitals: mean Dice of every label over all cases. Box and point
// prompts of the truth are upper limits and stand apart.

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { scoreTable } from "../../site-agent/commands/score-table.ts";
import type { PromptSource } from "../../site-agent/recipes/recipe.ts";
import { replaceFile } from "../../site-agent/store/durable-file.ts";
import { scoreFolder } from "../../site-agent/work/score-folder.ts";
import type { CaseScores } from "../../site-agent/work/score-version.ts";
import { segmenterOf, segmentVolume, stagesOf } from "../../site-agent/work/segmenter.ts";
import { selectCases } from "../../site-agent/work/site-cohort.ts";
import { stageScores } from "../../site-agent/work/stage-scores.ts";
import type { WeightValues } from "../../site-agent/work/weights-file.ts";
import type { Workplace } from "./training.ts";

export type StageResult = {
  readonly stage: string;
  readonly kind: string;
  readonly objects: { readonly asked: number; readonly shareReplaced: number } | null;
  readonly cases: number;
  /** Mean Dice of each label over the cases in which it is known, and the mean over labels. */
  readonly dice: Readonly<Record<string, number>>;
  readonly mean: number;
};

/** The stages of a model from prompts of these sources. Kept in a file: they are not computed again. */
export async function scoreStagesFrom(
  which: readonly PromptSource[],
  { name, weights }: { readonly name: string; readonly weights: WeightValues },
  place: Workplace,
): Promise<StageResult[]> {
  return kept(name, place, async () => {
    const plan = place.study.plans.adapters;
    const staged = stagesOf(plan, weights, { mirror: false, which });
    if (!staged) throw new Error("the recipe answers in stages");
    const rows = new Map<string, { kind: string; asked: number; replaced: number; scores: CaseScores[] }>();
    try {
      for (const { site, validation } of place.study.hospitals) {
        const scoring = { plan, predict: staged.predict, ...(await casesOf(validation, place)) };
        for (const { stage, kind, objects, scores } of await stageScores(scoring)) {
          const row = rows.get(stage) ?? { kind, asked: 0, replaced: 0, scores: [] };
          row.asked += objects?.asked ?? 0;
          row.replaced += objects?.replaced ?? 0;
          row.scores.push(...scores);
          rows.set(stage, row);
        }
        place.say(`${name}: scored at ${site}`);
      }
    } finally {
      staged.dispose();
    }
    return [...rows].map(([stage, { kind, asked, replaced, scores }]) => ({
      ...{ stage, kind, objects: asked > 0 ? { asked, shareReplaced: replaced / asked } : null },
      ...meansOf(scores, place),
    }));
  });
}

/** Only the automatic answer of a model. */
export async function scoreAnswer(
  name: string,
  weights: WeightValues,
  place: Workplace,
): Promise<StageResult> {
  const [only] = await kept(name, place, async () => {
    const plan = place.study.plans.adapters;
    const segmenter = segmenterOf(plan, weights);
    const scores: CaseScores[] = [];
    try {
      for (const { validation } of place.study.hospitals) {
        const scoring = { plan, ...(await casesOf(validation, place)) };
        scores.push(
          ...(await scoreFolder({ ...scoring, predict: (volume) => segmentVolume(volume, segmenter) })),
        );
      }
    } finally {
      segmenter.dispose();
    }
    place.say(`${name}: scored`);
    return [{ stage: "stage-2", kind: "automatic", objects: null, ...meansOf(scores, place) }];
  });
  if (!only) throw new Error(`no score of ${name}`);
  return only;
}

async function casesOf(validation: readonly string[], { study, signal }: Workplace) {
  const { source, validation: cases } = await selectCases({
    ...{ folder: study.folder, cases: [...validation], validation: [...validation] },
  });
  return { source, cases, onCase: () => signal.throwIfAborted() };
}

function meansOf(scores: readonly CaseScores[], { study }: Workplace) {
  const table = scoreTable(scores, study.plans.adapters);
  const dice = Object.fromEntries(table.labels.map(({ label, dice: mean }) => [label, mean ?? Number.NaN]));
  return { cases: scores.length, dice, mean: table.mean.dice ?? Number.NaN };
}

async function kept(
  name: string,
  { out }: Workplace,
  make: () => Promise<StageResult[]>,
): Promise<StageResult[]> {
  const file = join(out, `scores-${name}.json`);
  if (existsSync(file)) return JSON.parse(await readFile(file, "utf8")) as StageResult[]; // Written below.
  const results = await make();
  await replaceFile(file, Buffer.from(`${JSON.stringify(results, undefined, 1)}\n`));
  return results;
}
