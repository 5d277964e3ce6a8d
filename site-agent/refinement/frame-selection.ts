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
  /** Row of the temporal encoding `maskmem_tpos_enc`. */
  readonly slot: number;
};

/** Rows of the temporal encoding; the last belongs to conditioning slices. */
const SLOT_COUNT = 7;

/**
 * The memories of one slice, conditioning ones first, each kind nearest first and of equal ones the earlier. A slice is
 * never its own memory. Slot d - 1 is that of distance d, on either side; slices further away share the last of these.
 */
export function memoriesOf(
  query: number,
  {
    remembered,
    conditioning,
  }: { readonly remembered: readonly number[]; readonly conditioning: readonly number[] },
  { conditioningCountMax, memoryCountMax }: RefinementPlan,
): MemoryChoice[] {
  const chosen = nearest(query, conditioning).slice(0, conditioningCountMax);
  const others = nearest(query, remembered).filter((slice) => !chosen.includes(slice));
  return [
    ...chosen.map((slice) => memory({ query, slice, isConditioning: true })),
    ...others.slice(0, memoryCountMax).map((slice) => memory({ query, slice, isConditioning: false })),
  ];
}

function nearest(query: number, slices: readonly number[]): number[] {
  return slices
    .filter((slice) => slice !== query)
    .sort((a, b) => Math.abs(query - a) - Math.abs(query - b) || a - b);
}

function memory(choice: { query: number; slice: number; isConditioning: boolean }): MemoryChoice {
  const { query, slice, isConditioning } = choice;
  const distance = query - slice;
  const slot = isConditioning ? SLOT_COUNT - 1 : Math.min(Math.abs(distance), SLOT_COUNT - 1) - 1;
  return { slice, distance, isConditioning, slot };
}
