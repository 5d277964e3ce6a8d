// A study that a real agent can train in seconds: a UNet of a few thousand weights on phantom CT, with every document
// signed as a coordinator would.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { modelVersionId, type SiteId, siteId, studyId } from "@consilium/shared/base/brand.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import { type Envelope, seal } from "@consilium/shared/crypto/envelope.ts";
import type { SigningKey } from "@consilium/shared/crypto/keys.ts";
import { float32Tensor, writeTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";
import { findArchitecture, manifestDigest } from "@consilium/shared/model/recipe-architectures.ts";
import { planDigest, type StudyPlan, StudyPlanDocument } from "@consilium/shared/model/study-plan.ts";
import { ModelVersionDocument, type ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import type { VersionReference } from "@consilium/shared/protocol/messages.ts";
import { versionDigest } from "../../site-agent/work/checked-documents.ts";
import { PHANTOM_LABELS } from "../fixtures/phantom/anatomy.ts";

const labels = PHANTOM_LABELS.map(({ id, name }) => ({ id, name }));

export const tinyConfig = {
  inputChannels: 1,
  featuresPerStage: [4, 8],
  kernelSizes: [
    [3, 3],
    [3, 3],
  ],
  strides: [
    [1, 1],
    [2, 2],
  ],
  convsPerStage: [1, 1],
  convsPerStageDecoder: [1],
  classCount: labels.length + 1,
  deepSupervision: false,
};
const recipe = { id: "unet-prompter", version: 1, config: tinyConfig };

export type TinyStudy = {
  readonly plan: StudyPlan;
  readonly planEnvelope: Envelope;
  readonly start: VersionReference;
  readonly manifest: ModelVersionManifest;
  readonly versionEnvelope: Envelope;
  readonly weights: Uint8Array;
};

export type TinyOptions = {
  readonly key: SigningKey;
  readonly origin: string;
  readonly sites?: readonly SiteId[];
  readonly changes?: Partial<StudyPlan>;
};

export function tinyStudy({ key, origin, sites, changes = {} }: TinyOptions): TinyStudy {
  const weights = tinyWeights(1);
  const architecture = expectDefined(findArchitecture(recipe), "recipe");
  const study = studyId("phantom-ct");
  const parameterManifest = manifestDigest(architecture.trainable(tinyConfig));
  const manifest: ModelVersionManifest = {
    origin,
    study,
    plan: null,
    recipe: { id: recipe.id, version: recipe.version },
    parameterManifest,
    weights: { sha256: blobDigest(weights), bytes: weights.length },
    from: { kind: "seeded", seed: 1 },
  };
  const version = modelVersionId(versionDigest(manifest));
  const names = sites ?? [siteId("hospital-a"), siteId("hospital-b")];
  const plan = { ...tinyPlan(names), study, startVersion: version, parameterManifest, ...changes };
  return {
    plan,
    planEnvelope: seal(StudyPlanDocument, plan, key),
    start: { version, weights: manifest.weights },
    manifest,
    versionEnvelope: seal(ModelVersionDocument, manifest, key),
    weights,
  };
}

/** A version made under the plan, of these weights. */
export function tinyVersion(
  study: TinyStudy,
  key: SigningKey,
  seed: number,
): Omit<TinyStudy, "plan" | "planEnvelope"> {
  const weights = tinyWeights(seed);
  const manifest: ModelVersionManifest = {
    ...study.manifest,
    plan: planDigest(study.plan),
    weights: { sha256: blobDigest(weights), bytes: weights.length },
    from: { kind: "imported" },
  };
  const version = modelVersionId(versionDigest(manifest));
  const start = { version, weights: manifest.weights };
  return { start, manifest, versionEnvelope: seal(ModelVersionDocument, manifest, key), weights };
}

function tinyWeights(seed: number): Uint8Array {
  const architecture = expectDefined(findArchitecture(recipe), "recipe");
  const values = architecture.initialWeights(tinyConfig, seed);
  const tensors = architecture
    .parameters(tinyConfig)
    .map(({ name, shape }) => float32Tensor(name, shape, expectDefined(values.get(name), name)));
  return writeTensorBundle(tensors);
}

function tinyPlan(sites: readonly SiteId[]): Omit<StudyPlan, "study" | "startVersion" | "parameterManifest"> {
  return {
    title: "Phantom CT",
    labels,
    partialLabels: "per-site",
    recipe,
    preprocessing: {
      orientation: "RAS",
      sliceAxis: "S",
      inPlaneSpacingMm: 12,
      throughPlaneSpacingMm: null,
      imageOrder: 1,
      patch: { height: 32, width: 32 },
      largerThanPatch: "crop",
      padding: "minimum",
      contextSlices: 0,
      normalisation: { kind: "zscore" },
    },
    training: {
      stepsPerRound: 3,
      batchSize: 2,
      learningRate: 0.003,
      weightDecay: 0.0001,
      gradientNormL2Max: 12,
      schedule: "polynomial",
      warmupSteps: 0,
      augmentation: "none",
      mirrorAxes: [],
      seed: 7,
    },
    rounds: {
      count: 2,
      quorum: 2,
      recruitmentMs: 60_000,
      trainingMs: 600_000,
      evaluationMs: 600_000,
      abandonedInARowMax: 3,
    },
    sites: [...sites],
    aggregation: { rule: "fedavg", weighting: "examples", examplesPerSiteMax: 1000 },
    protection: { kind: "clip", normL2: 0.05 },
    acceptance: { metric: "mean-dice", minGain: 0, siteDropMax: 1 },
    evaluation: { slicesPerCase: 4 },
    retention: { updateDays: null },
  };
}
