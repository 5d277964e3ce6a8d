// Scores of single slices, for evaluations during training that look at a sample of slices instead of whole volumes.
// Pixels of a case's slices are pooled before scoring; distances between surfaces are not defined on a sample.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import type { CaseLabelScore } from "./evaluate-case.ts";
import { type OverlapCounts, overlap, overlapCounts } from "./overlap.ts";

export interface SlicePair {
  readonly predicted: Uint8Array;
  readonly truth: Uint8Array;
}

/** @returns one score per contoured label that any of the case's slices holds in truth or prediction. */
export function evaluateSlices(
  slices: readonly SlicePair[],
  contoured: readonly number[],
): readonly CaseLabelScore[] {
  const counts = slices.map(({ predicted, truth }) => overlapCounts(predicted, truth));
  return contoured.flatMap((label) => {
    const pooled = counts.reduce<OverlapCounts>(
      (sum, slice) => {
        const one = expectDefined(slice[label], "counts of a label");
        return {
          predicted: sum.predicted + one.predicted,
          truth: sum.truth + one.truth,
          both: sum.both + one.both,
        };
      },
      { predicted: 0, truth: 0, both: 0 },
    );
    const shares = overlap(pooled);
    if (shares === null) return [];
    const isMissed = pooled.predicted === 0 || pooled.truth === 0;
    return [{ label, ...shares, hd95Mm: null, nsd1mm: null, nsd2mm: null, isMissed }];
  });
}

/** Indices of `count` slices spread evenly over a case, the outermost half a step from its ends; all for null. */
export function spreadSlices(sliceCount: number, count: number | null): readonly number[] {
  assert(count === null || count > 0, "a sample holds at least one slice");
  const wanted = Math.min(count ?? sliceCount, sliceCount);
  return Array.from({ length: wanted }, (_, index) => Math.floor(((index + 0.5) * sliceCount) / wanted));
}
