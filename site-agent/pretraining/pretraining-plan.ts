// All that a pretraining depends on besides code and record: how many steps of which kind, with what learning rate, from
// which seed. The length is given in minutes of the reference machine and becomes a number of steps, so that the same
// plan gives the same bytes on a machine of any speed.

import { Prng } from "@consilium/shared/base/prng.ts";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { learningRate } from "../training/learning-rate.ts";
import type { ExamplePlan } from "./drawn-examples.ts";
import type { PromptKind } from "./example-prompts.ts";
import {
  type ClipPrompting,
  EARLY_LOSS,
  LATE_LOSS,
  type SlicePrompting,
  type StepOptions,
} from "./pretraining-steps.ts";

const Steps = Type.Integer({ minimum: 0, maximum: 1_000_000 });
const Share = Type.Number({ minimum: 0, maximum: 1 });
const Examples = Type.Object(
  {
    imageCount: Type.Integer({ minimum: 1, maximum: 64 }),
    objectCountMax: Type.Integer({ minimum: 1, maximum: 64 }),
    areaMinPx: Type.Integer({ minimum: 1, maximum: 65_536 }),
  },
  { additionalProperties: false },
);

export const PretrainingPlan = Type.Object(
  {
    seed: Type.Integer({ minimum: 0, maximum: 0xffff_ffff }),
    /** Steps on single slices; after them steps on clips and on slices take turns, with an optimiser of their own. */
    sliceSteps: Steps,
    clipSteps: Steps,
    slices: Examples,
    clips: Examples,
    /** Of the first phase, and of the second. */
    learningRate: Type.Number({ minimum: 0, maximum: 1 }),
    clipLearningRate: Type.Number({ minimum: 0, maximum: 1 }),
    warmupSteps: Steps,
    weightDecay: Type.Number({ minimum: 0, maximum: 1 }),
    beta2: Type.Number({ minimum: 0, maximum: 1 }),
    gradientNormL2Max: Type.Number({ minimum: 0 }),
    /** Steps with a single point, and with a box and a rough mask; all others have a box alone. */
    pointShare: Share,
    maskShare: Share,
    /** The first steps: larger objects, whose pixels weigh more, and more masks, which say the most. */
    earlySteps: Steps,
    earlyAreaMinPx: Type.Integer({ minimum: 1, maximum: 65_536 }),
    earlyMaskShare: Share,
    /** Steps with a second answer after a correction. */
    correctionShare: Share,
    /** Later slices of a clip that are prompted as well, and of these the ones with a rough mask. */
    promptedAgainShare: Share,
    promptedAgainMaskShare: Share,
  },
  { additionalProperties: false },
);
export type PretrainingPlan = Static<typeof PretrainingPlan>;

/** Of both kinds, as measured on one core of the reference machine, another being busy. */
const STEPS_PER_MINUTE = 140;
const CLIP_PHASE_SHARE = 0.2;
/** What is trained already goes on mostly with clips: memory is what it knows least of. */
const CONTINUED_CLIP_PHASE_SHARE = 0.7;
export const PRETRAINING_MINUTES_MAX = 90;

/** @param continues from trained weights: without the first steps' help, and with smaller ones */
export function pretrainingPlan(minutes: number, seed: number, continues = false): PretrainingPlan {
  const stepCount = Math.round(minutes * STEPS_PER_MINUTE);
  const clipSteps = Math.round(stepCount * (continues ? CONTINUED_CLIP_PHASE_SHARE : CLIP_PHASE_SHARE));
  return {
    seed,
    sliceSteps: stepCount - clipSteps,
    clipSteps,
    slices: { imageCount: 4, objectCountMax: 8, areaMinPx: 256 },
    clips: { imageCount: 3, objectCountMax: 4, areaMinPx: 256 },
    learningRate: continues ? 5e-4 : 1e-3,
    clipLearningRate: continues ? 4e-4 : 5e-4,
    warmupSteps: Math.min(100, Math.round(stepCount / 20)),
    weightDecay: 0.01,
    beta2: 0.99,
    gradientNormL2Max: 1,
    pointShare: 0.1,
    maskShare: 0.15,
    earlySteps: continues ? 0 : Math.round(stepCount / 12),
    earlyAreaMinPx: 400,
    earlyMaskShare: 0.4,
    correctionShare: 0.1,
    promptedAgainShare: 0.5,
    promptedAgainMaskShare: 0.5,
  };
}

export function stepCountOf({ sliceSteps, clipSteps }: PretrainingPlan): number {
  return sliceSteps + clipSteps;
}

export function samePlan(plan: PretrainingPlan, other: PretrainingPlan): boolean {
  return Value.Equal(plan, other);
}

export type PretrainingStep = {
  readonly learningRate: number;
  /** The first of its phase, for which the optimiser starts anew. */
  readonly startsPhase: boolean;
  readonly examples: ExamplePlan;
  /** With the generator from which alone this step draws. */
  readonly options: StepOptions;
} & (
  | { readonly of: "slices"; readonly prompting: SlicePrompting }
  | { readonly of: "clip"; readonly prompting: ClipPrompting }
);

/** @param step counts from 0 */
export function pretrainingStep(plan: PretrainingPlan, step: number): PretrainingStep {
  const inClipPhase = step >= plan.sliceSteps;
  const place = inClipPhase ? step - plan.sliceSteps : step;
  const prng = Prng.labelled(plan.seed, `step ${step}`);
  const isEarly = step < plan.earlySteps;
  const options = { settings: isEarly ? EARLY_LOSS : LATE_LOSS, prng };
  const schedule = {
    learningRate: inClipPhase ? plan.clipLearningRate : plan.learningRate,
    schedule: "cosine",
    warmupSteps: plan.warmupSteps,
  } as const;
  const rate = learningRate(schedule, place, inClipPhase ? plan.clipSteps : plan.sliceSteps);
  const common = { learningRate: rate, startsPhase: place === 0, options };
  if (inClipPhase && place % 2 === 0)
    return { ...common, of: "clip", examples: plan.clips, prompting: clipPrompting(plan, step, prng) };
  const correctionCount = Number(prng.chance(plan.correctionShare));
  const examples = isEarly ? { ...plan.slices, areaMinPx: plan.earlyAreaMinPx } : plan.slices;
  return {
    ...common,
    of: "slices",
    examples,
    prompting: { kind: promptKind(plan, step, prng), correctionCount },
  };
}

function promptKind(plan: PretrainingPlan, step: number, prng: Prng): PromptKind {
  const draw = prng.next();
  const maskShare = step < plan.earlySteps ? plan.earlyMaskShare : plan.maskShare;
  if (draw < plan.pointShare) return "point";
  return draw < plan.pointShare + maskShare ? "box-and-mask" : "box";
}

const GIVEN_MASK_SHARE = 0.2;

function clipPrompting(plan: PretrainingPlan, step: number, prng: Prng): ClipPrompting {
  const { pointShare, promptedAgainShare: share, promptedAgainMaskShare: maskShare } = plan;
  const kind = prng.chance(GIVEN_MASK_SHARE) ? "mask" : promptKind(plan, step, prng);
  return { kind, again: { share, pointShare, maskShare } };
}
