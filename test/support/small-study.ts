// A study so small that its evidence is a few kilobytes: a UNet of some hundred parameters, two sites.

import { parsePlainConvUNetConfig, plainConvUNetTrainable } from "@consilium/shared/model/plain-conv-unet.ts";

export const smallConfig = parsePlainConvUNetConfig({
  inputChannels: 1,
  featuresPerStage: [1, 1],
  kernelSizes: [
    [1, 1],
    [1, 1],
  ],
  strides: [
    [1, 1],
    [2, 2],
  ],
  convsPerStage: [1, 1],
  convsPerStageDecoder: [1],
  classCount: 2,
  deepSupervision: false,
});

export const smallManifest = plainConvUNetTrainable(smallConfig);

/** A plan as an operator writes it: without what the coordinator adds. */
export function smallPlan(
  study: string,
  sites: readonly string[],
  changes: Record<string, unknown> = {},
): Record<string, unknown> {
  return {
    study,
    title: "Small study",
    labels: [{ id: 1, name: "organ" }],
    partialLabels: "per-site",
    recipe: { id: "unet-prompter", version: 1, config: smallConfig },
    preprocessing: {
      orientation: "RAS",
      sliceAxis: "S",
      inPlaneSpacingMm: null,
      throughPlaneSpacingMm: null,
      imageOrder: 1,
      patch: { height: 16, width: 16 },
      largerThanPatch: "crop",
      padding: "zero",
      contextSlices: 0,
      normalisation: { kind: "zscore" },
    },
    training: {
      stepsPerRound: 1,
      batchSize: 1,
      learningRate: 0.001,
      weightDecay: 0,
      gradientNormL2Max: 1,
      schedule: "polynomial",
      warmupSteps: 0,
      augmentation: "none",
      mirrorAxes: [],
      seed: 1,
    },
    rounds: {
      count: 2,
      quorum: 2,
      recruitmentMs: 60_000,
      trainingMs: 60_000,
      evaluationMs: 60_000,
      abandonedInARowMax: 3,
    },
    sites: [...sites].sort(),
    aggregation: { rule: "fedavg", weighting: "examples", examplesPerSiteMax: 1000 },
    protection: { kind: "clip", normL2: 10 },
    acceptance: { metric: "mean-dice", minGain: 0, siteDropMax: 1 },
    evaluation: { slicesPerCase: null },
    retention: { updateDays: null },
    ...changes,
  };
}
