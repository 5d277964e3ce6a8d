// What a site may say about a model version: mean scores per label over its own validation cases. It names no case,
// lists no single score, and hides counts small enough to point at a person.

import { type Static, Type } from "typebox";

const strict = { additionalProperties: false } as const;

/** Counts from 1 up to below this are reported only as fewer than it. */
export const COUNT_REPORTED_MIN = 5;
const FEWER = "<5";
/** Decimals of a reported mean: enough to compare versions, too few to solve for one patient's voxels. */
const SCORE_DECIMALS = 4;

/** An exact count, or "<5" for 1 to 4. */
export const SmallCount = Type.Union([
  Type.Integer({ minimum: COUNT_REPORTED_MIN, maximum: 1_000_000 }),
  Type.Literal(0),
  Type.Literal(FEWER),
]);
export type SmallCount = Static<typeof SmallCount>;

const Share = Type.Union([Type.Number({ minimum: 0, maximum: 1 }), Type.Null()]);

export const LabelScore = Type.Object(
  {
    /** Identifier of the label in the study plan. */
    label: Type.Integer({ minimum: 1, maximum: 255 }),
    /** Cases in which the label is contoured and present in the truth or in the prediction. */
    cases: SmallCount,
    /** Of these, cases in which only one of truth and prediction holds the label. */
    missed: SmallCount,
    /** Means over the cases; null where no case defines them. */
    meanDice: Share,
    /** 95th percentile of the pooled surface distances; cases with an empty side are counted as missed, not averaged. */
    meanHd95Mm: Type.Union([Type.Number({ minimum: 0, maximum: 1e6 }), Type.Null()]),
    meanNsd1mm: Share,
    meanNsd2mm: Share,
  },
  strict,
);
export type LabelScore = Static<typeof LabelScore>;

export const EvaluationReport = Type.Object(
  {
    /** Whole volumes on their own grid, or a sample of slices, on which distances are not defined. */
    scope: Type.Union([Type.Literal("volumes"), Type.Literal("slices")]),
    cases: SmallCount,
    labels: Type.Array(LabelScore, { maxItems: 255 }),
    /** Mean of the labels' mean Dice; null when no label has one. */
    meanDice: Share,
  },
  strict,
);
export type EvaluationReport = Static<typeof EvaluationReport>;

export function smallCount(count: number): SmallCount {
  return count === 0 || count >= COUNT_REPORTED_MIN ? count : FEWER;
}

/** A mean as it is reported. */
export function reportedScore(score: number): number {
  return Number(score.toFixed(SCORE_DECIMALS));
}
