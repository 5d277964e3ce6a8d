// Scores of one predicted label map against the truth on the same grid, label by label. Labels that were not contoured
// in the case are left out: there is nothing to compare them with.

import { assert } from "@consilium/shared/base/assert.ts";
import { maskWhere } from "@consilium/shared/base/mask-where.ts";
import { isSameGrid } from "../data/grid.ts";
import type { Labelmap } from "../data/volume.ts";
import { overlap, overlapCounts } from "./overlap.ts";
import { surfaceDistances } from "./surface-distance.ts";

/** One label of one case. It stays at the site. */
export interface CaseLabelScore {
  readonly label: number;
  readonly dice: number;
  readonly iou: number;
  /** Null where one side is empty: the distance to nothing is not a number to average. */
  readonly hd95Mm: number | null;
  /** 0 where one side is empty; null where only a sample of slices was scored. */
  readonly nsd1mm: number | null;
  readonly nsd2mm: number | null;
  /** Only one of truth and prediction holds the label. */
  readonly isMissed: boolean;
}

/**
 * @param contoured labels to score.
 * @returns one score per contoured label that truth or prediction holds.
 */
export function evaluateCase(
  predicted: Labelmap,
  truth: Labelmap,
  contoured: readonly number[],
): readonly CaseLabelScore[] {
  assert(isSameGrid(predicted.grid, truth.grid), "prediction and truth lie on one grid");
  const counts = overlapCounts(predicted.voxels, truth.voxels);
  return contoured.flatMap((label) => {
    const labelOverlap = overlap(counts[label] ?? { predicted: 0, truth: 0, both: 0 });
    if (labelOverlap === null) return [];
    const distances = surfaceDistances({
      predicted: maskOf(predicted.voxels, label),
      truth: maskOf(truth.voxels, label),
      shape: truth.grid.shape,
      spacingMm: truth.grid.spacingMm,
    });
    return [
      {
        label,
        ...labelOverlap,
        hd95Mm: distances?.hd95PooledMm ?? null,
        nsd1mm: distances?.nsd(1) ?? 0,
        nsd2mm: distances?.nsd(2) ?? 0,
        isMissed: distances === null,
      },
    ];
  });
}

function maskOf(labels: Uint8Array, label: number): Uint8Array {
  return maskWhere(labels, (value) => value === label);
}
