// The acceptance rule of a plan, applied: does a version become the study's best? Pure, so that the coordinator
// decides with it and an auditor decides again.

import type { ModelVersionId, SiteId } from "../base/brand.ts";
import type { StudyPlan } from "../model/study-plan.ts";
import type { RecordOf } from "./records.ts";

/** Mean Dice of one version at each site that reported it; null where a site could score no label. */
export type SiteScores = ReadonlyMap<SiteId, number | null>;
export type Standing = {
  readonly version: ModelVersionId;
  readonly meanDice: number;
  readonly scores: SiteScores;
};
export type Judgement = Pick<RecordOf<"version.judged">, "promoted" | "meanDice" | "reason">;

/** Scores are compared after rounding to this many decimals, so that the last bit of a mean decides nothing. */
const decimals = 6;

export function judge(scores: SiteScores, best: Standing | null, rule: StudyPlan["acceptance"]): Judgement {
  const meanDice = meanOfSites(scores);
  if (meanDice === null) return { promoted: false, meanDice, reason: "no-reports" };
  if (best === null) return { promoted: true, meanDice, reason: "first" };
  if (round(meanDice - best.meanDice) < rule.minGain)
    return { promoted: false, meanDice, reason: "not-better" };
  const dropped = [...scores].some(([site, score]) => {
    const before = best.scores.get(site) ?? null;
    return score !== null && before !== null && round(before - score) > rule.siteDropMax;
  });
  return dropped
    ? { promoted: false, meanDice, reason: "site-dropped" }
    : { promoted: true, meanDice, reason: "better" };
}

/** Every site counts the same: a large hospital must not hide a small one's loss. Summed in the order of names. */
export function meanOfSites(scores: SiteScores): number | null {
  const known = [...scores]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, score]) => score)
    .filter((score): score is number => score !== null);
  return known.length === 0 ? null : round(known.reduce((sum, score) => sum + score, 0) / known.length);
}

function round(value: number): number {
  return Math.round(value * 10 ** decimals) / 10 ** decimals;
}
