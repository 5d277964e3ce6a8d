// How well `consilium-site check` foretells a training step: for several plans the estimate beside real steps in a
// process of their own. Prints one JSON document, and every result on standard error as it comes; seconds are the
// processor's, memory is the most that was ever resident.
// node --import tsx bench/step-estimate.ts [NAME...]

import { fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { modelVersionId, sha256, siteId, studyId } from "@consilium/shared/base/brand.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import type { PlainConvUNetConfig } from "@consilium/shared/model/plain-conv-unet.ts";
import { findArchitecture } from "@consilium/shared/model/recipe-architectures.ts";
import { draftRfmedsam2Config } from "@consilium/shared/model/rfmedsam2-draft.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { startBackend } from "../site-agent/backend/start-backend.ts";
import { estimateInChild } from "../site-agent/estimate/estimate-in-child.ts";
import { rehearsalCase } from "../site-agent/estimate/rehearsal-material.ts";
import { clipView } from "../site-agent/preprocessing/training-view.ts";
import { findRecipe } from "../site-agent/recipes/registry.ts";
import { trainBatches } from "../site-agent/training/train-locally.ts";

type Refined = Pick<Parameters<typeof draftRfmedsam2Config>[0], "variant" | "imageSize" | "trains"> & {
  readonly recompute?: boolean;
  /** Fewer where one takes minutes. */
  readonly steps?: number;
  /** In place of the drafted clip of eight slices. */
  readonly clip?: { readonly slices: number; readonly queries: number; readonly objects: number };
};

const SLICES_OF_TWO = { slices: 2, queries: 1, objects: 1 };
const PLANS: Readonly<Record<string, () => StudyPlan>> = {
  "unet 8, 96 px, batch 16": () => unetPlan(8, 96, 16),
  "unet 16, 128 px, batch 8": () => unetPlan(16, 128, 8),
  "unet 32, 256 px, batch 2": () => unetPlan(32, 256, 2),
  "micro 64 px, adapters": () => refinedPlan({ variant: "micro", imageSize: 64, trains: "adapters" }),
  "micro 128 px, joint": () => refinedPlan({ variant: "micro", imageSize: 128, trains: "joint" }),
  "micro 128 px, prompter": () => refinedPlan({ variant: "micro", imageSize: 128, trains: "prompter" }),
  "pretrained-micro 128 px, adapters": () =>
    refinedPlan({ variant: "pretrained-micro", imageSize: 128, trains: "adapters" }),
  "tiny 256 px, recomputed": () =>
    refinedPlan({ variant: "tiny", imageSize: 256, trains: "adapters", clip: SLICES_OF_TWO }),
  "tiny 256 px, kept": () =>
    refinedPlan({
      ...{ variant: "tiny", imageSize: 256, trains: "adapters", clip: SLICES_OF_TWO },
      recompute: false,
    }),
  "tiny 512 px, recomputed": () =>
    refinedPlan({ variant: "tiny", imageSize: 512, trains: "adapters", clip: SLICES_OF_TWO }),
  "tiny 1024 px, recomputed": () =>
    refinedPlan({ variant: "tiny", imageSize: 1024, trains: "adapters", clip: SLICES_OF_TWO, steps: 2 }),
};
const STEPS = 6;
/** In which engines still compile. */
const WARM_UPS = 2;
const MIB = 2 ** 20;

function unet(features: number): PlainConvUNetConfig {
  const stages = [0, 1, 2, 3];
  return {
    inputChannels: 1,
    featuresPerStage: stages.map((stage) => features * 2 ** stage),
    kernelSizes: stages.map(() => [3, 3]),
    strides: stages.map((stage) => (stage === 0 ? [1, 1] : [2, 2])),
    convsPerStage: stages.map(() => 2),
    convsPerStageDecoder: stages.slice(1).map(() => 2),
    classCount: 3,
    deepSupervision: true,
  };
}

function unetPlan(features: number, side: number, batchSize: number): StudyPlan {
  return planOf({ id: "unet-prompter", version: 1, config: unet(features) }, side, batchSize);
}

function refinedPlan({ recompute, clip, steps = STEPS, ...options }: Refined): StudyPlan {
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

/** Real steps on drawn images in which every organ shows, as the rehearsal's do, under noise. */
async function realSteps(plan: StudyPlan): Promise<object> {
  await startBackend("wasm");
  const architecture = findArchitecture(plan.recipe);
  const base = architecture?.initialWeights(plan.recipe.config, 1) ?? new Map();
  const prng = Prng.labelled(1, "noise");
  const slices = rehearsalCase(plan).map((slice) => ({
    ...slice,
    image: slice.image.map((_, pixel) => (slice.labels[pixel] ?? 0) + 0.5 * prng.normal()),
  }));
  const model = findRecipe(plan.recipe).open(plan.recipe.config, base);
  const objective = model.objective({
    ...{ cases: [slices], labels: [0, ...plan.labels.map(({ id }) => id)] },
    ...{ batchSize: plan.training.batchSize, seed: 1 },
    view: clipView({ preprocessing: plan.preprocessing, ...plan.training }),
  });
  const marks = [processorSeconds()];
  const onStep = () => void marks.push(processorSeconds());
  await trainBatches({ parameters: model.parameters, plan: plan.training, onStep }, objective);
  const steps = marks.slice(1).map((mark, index) => mark - (marks[index] ?? mark));
  const warm = steps.slice(Math.min(WARM_UPS, steps.length - 1)).sort((a, b) => a - b);
  return { seconds: warm[Math.floor(warm.length / 2)], firstSeconds: steps[0], memoryBytes: residentMost() };
}

function processorSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** VmHWM. */
function residentMost(): number {
  const found = /VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"));
  return 1024 * Number(found?.[1]);
}

type Measured = { readonly seconds: number; readonly firstSeconds: number; readonly memoryBytes: number };

function measuredInChild(name: string): Promise<Measured> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), [name], {
      execArgv: ["--import", import.meta.resolve("tsx")],
    });
    let result: unknown;
    child.on("message", (message) => {
      result = message;
    });
    child.on("error", reject);
    // What the child sends is the object above.
    child.on("close", () => (result ? resolve(result as Measured) : reject(new Error(`${name} ended`))));
  });
}

async function compare(name: string, plan: StudyPlan): Promise<object> {
  const estimate = await estimateInChild("wasm", plan);
  const measured = await measuredInChild(name);
  return {
    name,
    seconds: figures(estimate.seconds, measured.seconds),
    memoryMiB: figures(estimate.memoryBytes / MIB, measured.memoryBytes / MIB),
    tensorMiB: round(estimate.tensorBytes / MIB),
    ...{ hostSeconds: round(estimate.hostSeconds), timedShare: round(estimate.timedShare) },
    firstStepSeconds: round(measured.firstSeconds),
  };
}

function figures(predicted: number, measured: number): object {
  return { predicted: round(predicted), measured: round(measured), ratio: round(predicted / measured) };
}

function round(value: number): number {
  return Number(value.toPrecision(3));
}

const [asked] = process.argv.slice(2);
if (process.send && asked) {
  const plan = PLANS[asked];
  if (plan) process.send(await realSteps(plan()));
  process.disconnect();
} else {
  const wanted = process.argv.slice(2);
  const results: object[] = [];
  for (const [name, plan] of Object.entries(PLANS)) {
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    const result = await compare(name, plan());
    console.error(JSON.stringify(result));
    results.push(result);
  }
  const [processor] = cpus();
  const machine = { processor: processor?.model, processors: cpus().length, node: process.version };
  console.log(JSON.stringify({ machine, results }, undefined, 2));
}
