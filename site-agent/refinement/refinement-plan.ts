// The numbers of dual-stage refinement, in one record. Inferred throughout: the paper names the stages and says that
// frame selection and memory attention are changed, but gives no values.

import { PROMPTER_RULE, type PrompterRule } from "../prompts/prompter-prompts.ts";

export type RefinementPlan = {
  readonly prompter: PrompterRule;
  /** Boxes alone, or boxes with mask prompts, in both stages. */
  readonly prompts: "boxes" | "boxes-and-masks";
  /** The mask prompt of stage 2: stage 1's answer, by default, or its own mask prompt where it had one. */
  readonly secondMask?: "answer" | "prompt";
  /** Every so many confident slices one conditions the others. */
  readonly conditioningEvery: number;
  /** Predicted IoU from which a slice is confident. */
  readonly conditioningScoreMin: number;
  /** Conditioning slices that one slice looks at, the nearest first. */
  readonly conditioningCountMax: number;
  /** Other slices that one slice looks at, on both sides together. */
  readonly memoryCountMax: number;
  /** Rows of the model's temporal encoding, as its record says. */
  readonly memoryFrameCount: number;
  /** Slices between prompted ones are refined too, from memory alone. */
  readonly gaps: "refined" | "left";
};

export const REFINEMENT_PLAN: RefinementPlan = {
  prompter: PROMPTER_RULE,
  prompts: "boxes-and-masks",
  conditioningEvery: 4,
  conditioningScoreMin: 0.7,
  conditioningCountMax: 4,
  memoryCountMax: 6,
  memoryFrameCount: 7,
  gaps: "refined",
};

/** SAM 2 clamps logits that are fed back as a mask prompt. */
export const FEEDBACK_LOGIT_MAX = 32;
