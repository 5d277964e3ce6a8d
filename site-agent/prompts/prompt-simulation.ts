// Prompts for training, slice by slice and over a clip of consecutive slices: partly from the drawn labels with jitter,
// partly from the prompter as it will be in use, so that training and use see the same kind of prompt. Seeded: the same
// generator gives the same prompts. Inferred throughout: the paper does not describe the prompts of its training; the
// shares follow SAM 2's own (half of the prompts from each source, jitter of a tenth of the side).

import { assert } from "@consilium/shared/base/assert.ts";
import type { Prng } from "@consilium/shared/base/prng.ts";
import { type MaskRoughness, maskLogitsFromProbabilities, maskLogitsFromTruth } from "./mask-logits.ts";
import type { ObjectPrompt } from "./object-prompt.ts";
import { type BoxJitter, SAM2_JITTER } from "./pixel-box.ts";
import { classMask, type ObjectPlace, type PrompterOutput, probabilityPlane } from "./prompter-output.ts";
import { type ModelSizes, type PrompterRule, prompterPrompt } from "./prompter-prompts.ts";
import { type TruthPromptKind, type TruthStack, truthPrompt } from "./truth-prompts.ts";

/** Shares are probabilities, drawn for each object in each slice. */
export type PromptPolicy = {
  /** The prompt comes from the drawn labels; else from the prompter. */
  readonly truthShare: number;
  /** A prompt from the drawn labels is points instead of a box. */
  readonly pointShare: number;
  /** Negative points beside the one positive point. */
  readonly negativeCount: number;
  /** The prompt has a mask too. */
  readonly maskShare: number;
  /** An object's slice is prompted at all; of every object in a clip at least one is. */
  readonly promptedShare: number;
  readonly jitter: BoxJitter;
  readonly roughness: MaskRoughness;
};

export const PROMPT_POLICY: PromptPolicy = {
  truthShare: 0.5,
  pointShare: 0,
  negativeCount: 0,
  maskShare: 0.5,
  promptedShare: 1,
  jitter: SAM2_JITTER,
  roughness: { shiftPxMax: 2, growPxMax: 2 },
};

/** A clip of slices with what was drawn in it and, once there is a prompter, what that sees in it. */
export type PromptedClip = {
  readonly truth: TruthStack;
  readonly prompter: PrompterOutput | null;
  /** Classes that were drawn in this case; others are unknown, not absent, and are never prompted. */
  readonly drawnClasses: readonly number[];
};

export type SimulationOptions = {
  readonly model: ModelSizes;
  readonly policy: PromptPolicy;
  readonly prng: Prng;
  readonly rule?: PrompterRule;
};

/**
 * The prompt of one object in one slice, or null. A prompter that sees an object where none was drawn prompts it all
 * the same: that an object is absent has to be learnt from such prompts.
 */
export function simulatedPrompt(
  clip: PromptedClip,
  place: ObjectPlace,
  options: SimulationOptions,
): ObjectPrompt | null {
  const { truth, prompter } = clip;
  const { model, policy, prng } = options;
  const isFromTruth = prng.chance(policy.truthShare);
  const isPoints = prng.chance(policy.pointShare);
  const hasMask = prng.chance(policy.maskShare);
  const seen = prompter && prompterPrompt(prompter, place, options);
  if (seen !== null && !isFromTruth) return { ...seen, maskLogits: hasMask ? seen.maskLogits : null };
  const kind: TruthPromptKind = isPoints
    ? { kind: "points", positiveCount: 1, negativeCount: policy.negativeCount }
    : { kind: "box", jitter: policy.jitter };
  const prompt = truthPrompt(truth, place, { image: model.image, kind, prng });
  if (prompt === null || !hasMask) return prompt;
  return { ...prompt, maskLogits: simulatedMask(clip, place, options) };
}

/** The prompter's log-odds where there is a prompter, for they are what use will give; else a rough mask. */
function simulatedMask(
  { truth, prompter }: PromptedClip,
  place: ObjectPlace,
  { model, policy, prng }: SimulationOptions,
): Float32Array {
  if (prompter !== null) {
    return maskLogitsFromProbabilities(probabilityPlane(prompter, place), prompter, model.maskGrid);
  }
  const mask = classMask(truth.classes, truth, place);
  const sizes = { size: truth, grid: model.maskGrid };
  return maskLogitsFromTruth(mask, sizes, { roughness: policy.roughness, prng });
}

/** Prompts of all drawn objects of a clip, class by class and slice by slice. */
export function simulatedClipPrompts(clip: PromptedClip, options: SimulationOptions): ObjectPrompt[] {
  const { truth, prompter } = clip;
  const isSameGrid =
    prompter === null ||
    (prompter.depth === truth.depth && prompter.height === truth.height && prompter.width === truth.width);
  assert(isSameGrid, "labels and prompter cover the same clip");
  return clip.drawnClasses.flatMap((classIndex) => {
    const slices = Array.from({ length: truth.depth }, (_, slice) => slice);
    const prompts = slices.flatMap((slice) => simulatedPrompt(clip, { classIndex, slice }, options) ?? []);
    return thinned(prompts, options);
  });
}

function thinned(prompts: readonly ObjectPrompt[], { policy, prng }: SimulationOptions): ObjectPrompt[] {
  if (prompts.length === 0) return [];
  const certain = prng.pick(prompts);
  return prompts.filter((prompt) => prompt === certain || prng.chance(policy.promptedShare));
}
