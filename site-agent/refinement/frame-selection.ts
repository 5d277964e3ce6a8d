// Which slices a slice looks at in stage 2: a few confident ones that condition all others, and its nearest neighbours on
// both sides, for the whole volume is known and nothing need wait for the future.
// Inferred: the paper compares strategies of frame selection without describing them.

import type { RefinementPlan } from "./refinement-plan.ts";

/** A slice that stage 1 has decoded. */
export type FrameCandidate = {
  readonly slice: number;
  readonly areaPx: number;
  readonly iouScore: number;
  readonly objectLogit: number;
};

/**
 * Slices that condition the others, in order: the one with the largest area, and every n-th of the confident ones. A
 * slice in which the model does not see the object conditions nothing.
 */
export function conditioningSlices(
  frames: readonly FrameCandidate[],
  { conditioningEvery, conditioningScoreMin }: RefinementPlan,
): number[] {
  const seen = frames
    .filter(({ objectLogit, areaPx }) => objectLogit > 0 && areaPx > 0)
    .sort((a, b) => a.slice - b.slice);
  const [first] = seen;
  if (first === undefined) return [];
  const largest = seen.reduce((most, frame) => (frame.areaPx > most.areaPx ? frame : most), first);
  const confident = seen.filter(({ iouScore }) => iouScore >= conditioningScoreMin);
  const chosen = confident.filter((_, index) => index % conditioningEvery === 0);
  return [...new Set([largest, ...chosen].map(({ slice }) => slice))].sort((a, b) => a - b);
}

/** One slice as memory of another. */
export type MemoryChoice = {
  readonly slice: number;
  /** Query minus memory, in slices: positive where the memory lies before. */
  readonly distance: number;
  readonly isConditioning: boolean;
  /** Place in time as the model counts it: 0 for conditioning slices, else the more the nearer. */
  readonly slot: number;
};

/**
 * The memories of one slice, conditioning ones first, each kind nearest first and of equal ones the earlier. A slice is
 * never its own memory. The slot follows the distance on either side; slices too far for one of their own share the
 * last. SAM 2, track_step: slot 0 has the last row of `maskmem_tpos_enc`, slot `memoryFrameCount` - d the row d - 1.
 */
export function memoriesOf(
  query: number,
  {
    remembered,
    conditioning,
  }: { readonly remembered: readonly number[]; readonly conditioning: readonly number[] },
  { conditioningCountMax, memoryCountMax, memoryFrameCount }: RefinementPlan,
): MemoryChoice[] {
  const chosen = nearest(query, conditioning).slice(0, conditioningCountMax);
  const others = nearest(query, remembered).filter((slice) => !chosen.includes(slice));
  const slotOf = (slice: number): number =>
    memoryFrameCount - Math.min(Math.abs(query - slice), memoryFrameCount - 1);
  const memory = (slice: number, isConditioning: boolean): MemoryChoice => ({
    slice,
    distance: query - slice,
    isConditioning,
    slot: isConditioning ? 0 : slotOf(slice),
  });
  const countMax = memoryFrameCount > 1 ? memoryCountMax : 0; // One slot alone is the conditioning slices'.
  return [
    ...chosen.map((slice) => memory(slice, true)),
    ...others.slice(0, countMax).map((slice) => memory(slice, false)),
  ];
}

function nearest(query: number, slices: readonly number[]): number[] {
  return slices
    .filter((slice) => slice !== query)
    .sort((a, b) => Math.abs(query - a) - Math.abs(query - b) || a - b);
}
