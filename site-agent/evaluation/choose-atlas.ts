// Chooses the best simple atlas for a set of training cases by cross-validation on these cases alone, so that the
// baseline is as strong as it can honestly be before it meets a validation case.

import { assert } from "@consilium/shared/base/assert.ts";
import { type Atlas, type AtlasCase, countLabels, predictWithAtlas, winningLabels } from "./atlas.ts";
import { type AtlasAlignment, atlasFrame } from "./atlas-frame.ts";
import { overlap, overlapCounts } from "./overlap.ts";

const ALIGNMENTS: readonly AtlasAlignment[] = ["middle", "edges", "brightness"];
const BACKGROUND_WEIGHTS: readonly number[] = [1, 0.6, 0.4, 0.25, 0.15, 0.1];
const MIDDLE_WEIGHT = 0.4;
const FOLDS_MAX = 5;

export interface ChosenAtlas {
  readonly atlas: Atlas;
  readonly backgroundWeight: number;
  /** Mean Dice over labels and left-out cases; what the choice was made by. */
  readonly crossValidatedDice: number;
}

/**
 * The alignment first, at a middle weight, then the weight: the two hardly depend on each other.
 * @param cases at least two.
 */
export function chooseAtlas(cases: readonly AtlasCase[], labels: readonly number[]): ChosenAtlas {
  assert(cases.length >= 2, "cross-validation needs two cases");
  const frame = atlasFrame(cases.map(({ volume }) => volume));
  const foldCount = Math.min(FOLDS_MAX, cases.length);
  const folds = Array.from({ length: foldCount }, (_, fold) =>
    cases.filter((_, index) => index % foldCount === fold),
  );
  const variants = ALIGNMENTS.map((alignment) => ({
    alignment,
    counts: folds.map((fold) => countLabels(fold, frame, { labels, alignment })),
  }));
  const scoreOf = ({ alignment, counts }: (typeof variants)[number], backgroundWeight: number): number => {
    const scores = folds.map((fold, left) => {
      const others = counts.filter((_, index) => index !== left);
      const winners = winningLabels(others, { labels, backgroundWeight });
      return meanDice(fold, { frame, alignment, winners }, labels);
    });
    return scores.reduce((sum, score) => sum + score, 0) / foldCount;
  };
  const aligned = highest(variants, (variant) => scoreOf(variant, MIDDLE_WEIGHT)).item;
  const weighted = highest(BACKGROUND_WEIGHTS, (weight) => scoreOf(aligned, weight));
  const winners = winningLabels(aligned.counts, { labels, backgroundWeight: weighted.item });
  return {
    atlas: { frame, alignment: aligned.alignment, winners },
    backgroundWeight: weighted.item,
    crossValidatedDice: weighted.score,
  };
}

/** The first of the best. */
function highest<T>(items: readonly T[], scoreOf: (item: T) => number): { item: T; score: number } {
  const scored = items.map((item) => ({ item, score: scoreOf(item) }));
  return scored.reduce((best, one) => (one.score > best.score ? one : best));
}

function meanDice(cases: readonly AtlasCase[], atlas: Atlas, labels: readonly number[]): number {
  const scores = cases.flatMap(({ volume, labelmap, contoured }) => {
    const counts = overlapCounts(predictWithAtlas(volume, atlas).voxels, labelmap.voxels);
    return labels
      .filter((label) => contoured.includes(label))
      .flatMap((label) => overlap(counts[label] ?? { predicted: 0, truth: 0, both: 0 })?.dice ?? []);
  });
  return scores.length === 0 ? 0 : scores.reduce((sum, score) => sum + score, 0) / scores.length;
}
