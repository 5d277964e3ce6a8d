// Overlap of a predicted with a true mask: Dice and IoU from voxel counts. Where neither holds a voxel there is nothing
// to score, and the answer is null rather than a perfect score.

export interface Overlap {
  readonly dice: number;
  readonly iou: number;
}

export interface OverlapCounts {
  readonly predicted: number;
  readonly truth: number;
  readonly both: number;
}

/** Counts for each label 0..255 in one pass over two label maps of the same grid. */
export function overlapCounts(predicted: Uint8Array, truth: Uint8Array): readonly OverlapCounts[] {
  const inPredicted = new Uint32Array(256);
  const inTruth = new Uint32Array(256);
  const inBoth = new Uint32Array(256);
  for (let index = 0; index < truth.length; index += 1) {
    const a = predicted[index] ?? 0;
    const b = truth[index] ?? 0;
    inPredicted[a] = (inPredicted[a] ?? 0) + 1;
    inTruth[b] = (inTruth[b] ?? 0) + 1;
    if (a === b) inBoth[a] = (inBoth[a] ?? 0) + 1;
  }
  return Array.from({ length: 256 }, (_, label) => ({
    predicted: inPredicted[label] ?? 0,
    truth: inTruth[label] ?? 0,
    both: inBoth[label] ?? 0,
  }));
}

/** Null where both masks are empty; 0 where only one is. */
export function overlap({ predicted, truth, both }: OverlapCounts): Overlap | null {
  if (predicted + truth === 0) return null;
  return { dice: (2 * both) / (predicted + truth), iou: both / (predicted + truth - both) };
}
