// A study plan drafted from what the sites tell of their images: the operator's starting point, to be read and changed
// before it is opened. The network follows nnU-Net's rules for a plane, at one of three sizes.

import type { SiteId, StudyId } from "../base/brand.ts";
import { hourMs } from "../base/units.ts";
import type { CohortFingerprint } from "./cohort-fingerprint.ts";
import type { PlainConvUNetConfig } from "./plain-conv-unet.ts";
import { planPreprocessing } from "./plan-preprocessing.ts";
import { draftRfmedsam2Config, type Rfmedsam2DraftOptions } from "./rfmedsam2-draft.ts";
import type { StudyPlan } from "./study-plan.ts";

export type NetworkSize = "small" | "medium" | "large";

/** Features of the first stage, and the factor's end: nnU-Net doubles them at every stage up to a cap. */
const widths: Record<NetworkSize, { readonly first: number; readonly cap: number; readonly stages: number }> =
  {
    small: { first: 8, cap: 64, stages: 4 },
    medium: { first: 16, cap: 128, stages: 4 },
    large: { first: 32, cap: 512, stages: 6 },
  };
/** Longest patch edge at each size; larger slices are covered by windows. */
const patchEdgeMax: Record<NetworkSize, number> = { small: 96, medium: 128, large: 512 };

export type DraftOptions = {
  readonly study: StudyId;
  readonly title: string;
  readonly labels: StudyPlan["labels"];
  readonly sites: readonly { readonly site: SiteId; readonly fingerprint: CohortFingerprint }[];
  readonly size: NetworkSize;
  readonly partialLabels: StudyPlan["partialLabels"];
  readonly rounds: number;
  readonly stepsPerRound: number;
  /** Slices of a step. */
  readonly batchSize: number;
  readonly seed: number;
  /** Refine the network's answers with SAM 2; else the network is all there is. */
  readonly refinement?: Omit<Rfmedsam2DraftOptions, "prompter" | "normalisation">;
};

/** A plan without what the coordinator adds when it is opened. */
export type PlanDraft = Omit<StudyPlan, "startVersion" | "parameterManifest">;

export function draftPlan(options: DraftOptions): PlanDraft {
  const { study, title, labels, sites, size, partialLabels, rounds, stepsPerRound, batchSize, seed } =
    options;
  const { stages } = widths[size];
  const preprocessing = planPreprocessing(
    sites.map(({ fingerprint }) => fingerprint),
    { poolings: stages - 1, patchEdgeMax: patchEdgeMax[size], contextSlices: 0 },
  );
  return {
    study,
    title,
    labels,
    partialLabels,
    recipe: draftRecipe(options, preprocessing),
    preprocessing,
    training: {
      stepsPerRound,
      batchSize,
      ...optimiser(options),
      schedule: "polynomial",
      warmupSteps: 0,
      augmentation: "nnunet",
      // Left and right may be different organs: no mirroring unless the operator knows better.
      mirrorAxes: [],
      seed,
    },
    rounds: {
      count: rounds,
      quorum: 2,
      recruitmentMs: hourMs,
      trainingMs: hourMs,
      evaluationMs: hourMs,
      abandonedInARowMax: 20,
    },
    sites: sites.map(({ site }) => site).sort(),
    aggregation: { rule: "fedavg", weighting: "examples", examplesPerSiteMax: 10_000 },
    // Updates of 200 steps with this network had norms of up to 30.
    protection: { kind: "clip", normL2: 40 },
    acceptance: { metric: "mean-dice", minGain: 0, siteDropMax: 0.05 },
    evaluation: { slicesPerCase: 8 },
    retention: { updateDays: null },
  };
}

function draftRecipe(
  { size, labels, refinement }: DraftOptions,
  { contextSlices, normalisation }: PlanDraft["preprocessing"],
): PlanDraft["recipe"] {
  const prompter = unetConfig(size, labels.length + 1, 1 + 2 * contextSlices);
  if (!refinement) return { id: "unet-prompter", version: 1, config: prompter };
  const config = draftRfmedsam2Config({ ...refinement, prompter, normalisation });
  return { id: "rfmedsam2", version: 1, config };
}

/**
 * nnU-Net's for the network. For adapters those of the same authors' MaskSAM with a gradient clipped to 1, and three times
 * its learning rate: with a pretrained micro SAM 2.1 on real slices, 60 steps then brought the answer nearer to the truth.
 */
function optimiser({
  refinement,
}: DraftOptions): Pick<PlanDraft["training"], "learningRate" | "weightDecay" | "gradientNormL2Max"> {
  return refinement && refinement.trains !== "prompter"
    ? { learningRate: 3e-3, weightDecay: 3e-5, gradientNormL2Max: 1 }
    : { learningRate: 3e-3, weightDecay: 3e-5, gradientNormL2Max: 12 };
}

function unetConfig(size: NetworkSize, classCount: number, inputChannels: number): PlainConvUNetConfig {
  const { first, cap, stages } = widths[size];
  const perStage = <T>(value: (stage: number) => T): T[] =>
    Array.from({ length: stages }, (_, stage) => value(stage));
  return {
    inputChannels,
    featuresPerStage: perStage((stage) => Math.min(cap, first * 2 ** stage)),
    kernelSizes: perStage(() => [3, 3]),
    strides: perStage((stage) => (stage === 0 ? [1, 1] : [2, 2])),
    convsPerStage: perStage(() => 2),
    convsPerStageDecoder: Array.from({ length: stages - 1 }, () => 2),
    classCount,
    deepSupervision: true,
  };
}
