// Whether a refined mask replaces the prompter's. With the prompter as arbiter a refined mask that contradicts it without
// being sure of itself is refused; without it, only the model's own word counts.

import { overlap } from "../evaluation/overlap.ts";
import { clampedLogit, PROMPTER_LOGIT_MAX } from "../prompts/mask-logits.ts";

/** "prompter": acceptance and merging may look at the prompter's masks; "model": they may not. */
export type Arbiter = "prompter" | "model";

export type AcceptanceRule = {
  /** Below this overlap with the prompter's mask the model must be sure of itself. */
  readonly agreementDiceMin: number;
  /** Predicted IoU from which the model is sure of itself. */
  readonly sureScoreMin: number;
  /**
   * An accepted mask replaces the prompter's, as in the paper, or is averaged with it: two networks that err in different
   * places err less together. Only where the prompter is arbiter.
   */
  readonly accepted?: "replaces" | "averages";
};

/** Inferred: the paper gives no numbers. */
export const ACCEPTANCE_RULE: AcceptanceRule = { agreementDiceMin: 0.3, sureScoreMin: 0.5 };

export type Verdict = "accepted" | "object-absent" | "contradicts-prompter";

/** Two masks of one slice at the same size, and what the model says about its own. */
export type Claim = {
  readonly refined: Uint8Array;
  readonly initial: Uint8Array;
  readonly iouScore: number;
  readonly objectLogit: number;
};

export function verdictOn(
  { refined, initial, iouScore, objectLogit }: Claim,
  arbiter: Arbiter,
  { agreementDiceMin, sureScoreMin }: AcceptanceRule = ACCEPTANCE_RULE,
): Verdict {
  if (!(objectLogit > 0)) return "object-absent";
  if (arbiter === "model" || iouScore >= sureScoreMin) return "accepted";
  return diceOf(refined, initial) < agreementDiceMin ? "contradicts-prompter" : "accepted";
}

/** 0 where both masks are empty: they agree on nothing. */
function diceOf(a: Uint8Array, b: Uint8Array): number {
  const counts = { predicted: 0, truth: 0, both: 0 };
  a.forEach((value, pixel) => {
    const other = b[pixel] ?? 0;
    if (value !== 0) counts.predicted += 1;
    if (other !== 0) counts.truth += 1;
    if (value !== 0 && other !== 0) counts.both += 1;
  });
  return overlap(counts)?.dice ?? 0;
}

/** The mean of both as log-odds, of which neither may be surer than the prompter can be. */
export function averagedLogits(refined: Float32Array, probabilities: Float32Array): Float32Array {
  return refined.map((logit, pixel) => {
    const own = Math.min(Math.max(logit, -PROMPTER_LOGIT_MAX), PROMPTER_LOGIT_MAX);
    return (own + clampedLogit(probabilities[pixel] ?? 0)) / 2;
  });
}

/** Small, so that a kept mask wins over background and loses to every other object that is surer. */
const KEPT_LOGIT_MIN = 0.01;

/**
 * The prompter's mask as logits, for an object that keeps it: its log-odds, with the sign of its mask, because the
 * likeliest of many classes may have a probability below one half.
 */
export function keptLogits(probabilities: Float32Array, initial: Uint8Array): Float32Array {
  return probabilities.map((probability, pixel) => {
    const logit = clampedLogit(probability);
    return initial[pixel] === 0 ? Math.min(logit, -KEPT_LOGIT_MIN) : Math.max(logit, KEPT_LOGIT_MIN);
  });
}
