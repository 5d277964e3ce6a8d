// Plans whose steps are measured. They are of no study: nothing is opened, drawn images stand for its own.

import { modelVersionId, sha256, siteId, studyId } from "@consilium/shared/base/brand.ts";
import {
  type PlainConvUNetConfig,
  parsePlainConvUNetConfig,
} from "@consilium/shared/model/plain-conv-unet.ts";
import { draftRfmedsam2Config } from "@consilium/shared/model/rfmedsam2-draft.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";

export type Refined = Pick<Parameters<typeof draftRfmedsam2Config>[0], "variant" | "imageSize" | "trains"> & {
  readonly recompute?: boolean;
  /** Fewer where one takes minutes. */
  readonly steps?: number;
  /** In place of the drafted clip of eight slices. */
  readonly clip?: { readonly slices: number; readonly queries: number; readonly objects: number };
};

export const SLICES_OF_TWO = { slices: 2, queries: 1, objects: 1 };
/** That are timed; earlier ones warm up. */
const STEPS = 4;

export function unetConfig(features: readonly number[]): PlainConvUNetConfig {
  return parsePlainConvUNetConfig({
    ...{ inputChannels: 1, classCount: 3, deepSupervision: true, featuresPerStage: features },
    kernelSizes: features.map(() => [3, 3]),
    strides: features.map((_, stage) => (stage === 0 ? [1, 1] : [2, 2])),
    convsPerStage: features.map(() => 2),
    convsPerStageDecoder: features.slice(1).map(() => 2),
  });
}

/** Of four stages, each with twice the features of the one before. */
export function unet(features: number): PlainConvUNetConfig {
  return unetConfig([0, 1, 2, 3].map((stage) => features * 2 ** stage));
}

export function unetPlan(features: number, side: number, batchSize: number): StudyPlan {
  return planOf({ id: "unet-prompter", version: 1, config: unet(features) }, side, batchSize);
}

export function refinedPlan({ recompute, clip, steps = STEPS, ...options }: Refined): StudyPlan {
  const config = draftRfmedsam2Config({ ...options, prompter: unet(8), normalisation: { kind: "zscore" } });
  const changed = { ...config, ...(recompute !== undefined && { recompute }), ...(clip && { clip }) };
  const plan = planOf({ id: "rfmedsam2", version: 1, config: changed }, 96, 1);
  return { ...plan, training: { ...plan.training, stepsPerRound: steps } };
}

function planOf(recipe: StudyPlan["recipe"], side: number, batchSize: number): StudyPlan {
  // Of no version and no manifest: nothing is opened.
  const none = sha256("0".repeat(64));
  return {
    ...{ study: studyId("bench"), title: "Bench", partialLabels: "per-site", recipe },
    labels: ["first", "second"].map((name, index) => ({ id: index + 1, name })),
    ...{ startVersion: modelVersionId(none), parameterManifest: none },
    preprocessing: {
      ...{ orientation: "RAS", sliceAxis: "S", inPlaneSpacingMm: 1, throughPlaneSpacingMm: null },
      ...{ imageOrder: 3, patch: { height: side, width: side }, largerThanPatch: "window" },
      ...{ padding: "minimum", contextSlices: 0, normalisation: { kind: "zscore" } },
    },
    training: {
      ...{ stepsPerRound: STEPS, batchSize, learningRate: 1e-4, weightDecay: 3e-5, gradientNormL2Max: 1 },
      ...{ schedule: "polynomial", warmupSteps: 0, augmentation: "nnunet", mirrorAxes: [], seed: 1 },
    },
    rounds: {
      ...{ count: 1, quorum: 2, recruitmentMs: 1000, trainingMs: 1000, evaluationMs: 1000 },
      abandonedInARowMax: 1,
    },
    sites: [siteId("hospital-a"), siteId("hospital-b")],
    aggregation: { rule: "fedavg", weighting: "examples", examplesPerSiteMax: 1000 },
    protection: { kind: "clip", normL2: 40 },
    acceptance: { metric: "mean-dice", minGain: 0, siteDropMax: 0.05 },
    ...{ evaluation: { slicesPerCase: 8 }, retention: { updateDays: null } },
  };
}
