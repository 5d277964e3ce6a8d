// Chooses the best simple atlas for a set of training cases by cross-validation on these cases alone, so that the
// baseline is as strong as it can honestly be before it meets a validation case.

import { assert } from "@consilium/shared/base/assert.ts";
import { type Atlas, type AtlasCase, countLabels, predictWithAtlas, winningLabels } from "./atlas.ts";
import { type AtlasAlignment, atlasFrame } from "./atlas-frame.ts";
import { overlap, overlapCounts } from "./overlap.ts";

const ALIGNMENTS: readonly AtlasAlignment[] = ["middle", "edges", "brightness"];
const BACKGROUND_WEIGHTS: readonly number[] = [1, 0.6, 0.4, 0.25, 0.15, 0.1];
const FOLDS_MAX = 5;

export interface ChosenAtlas {
  readonly atlas: Atlas;
  readonly backgroundWeight: number;
  /** Mean Dice over labels and left-out cases; what the choice was made by. */
  readonly crossValidatedDice: number;
}

/** @param cases at least two. */
export function chooseAtlas(cases: readonly AtlasCase[], labels: readonly number[]): ChosenAtlas {
  assert(cases.length >= 2, "cross-validation needs two cases");
  const frame = atlasFrame(cases.map(({ volume }) => volume));
  const foldCount = Math.min(FOLDS_MAX, cases.length);
  const folds = Array.from({ length: foldCount }, (_, fold) =>
    cases.filter((_, index) => index % foldCount === fold),
  );
  let best: ChosenAtlas | null = null;
  for (const alignment of ALIGNMENTS) {
    const counts = folds.map((fold) => countLabels(fold, frame, { labels, alignment }));
    for (const backgroundWeight of BACKGROUND_WEIGHTS) {
      const scores = folds.map((fold, left) => {
        const others = counts.filter((_, index) => index !== left);
        const winners = winningLabels(others, { labels, backgroundWeight });
        return meanDice(fold, { frame, alignment, winners }, labels);
      });
      const crossValidatedDice = scores.reduce((sum, score) => sum + score, 0) / foldCount;
      if (best && crossValidatedDice <= best.crossValidatedDice) continue;
      const winners = winningLabels(counts, { labels, backgroundWeight });
      best = { atlas: { frame, alignment, winners }, backgroundWeight, crossValidatedDice };
    }
  }
  assert(best, "there is a variant to choose");
  return best;
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
