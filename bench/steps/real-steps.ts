// Real steps of a plan, in a process of their own, as long and as large as they are. This file is that process's
// program too.

import { readFileSync } from "node:fs";
import { Prng } from "@consilium/shared/base/prng.ts";
import { findArchitecture } from "@consilium/shared/model/recipe-architectures.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { BackendName } from "../../site-agent/backend/backend-report.ts";
import { runsGraphs } from "../../site-agent/backend/graph/graph-compiler.ts";
import { startBackend } from "../../site-agent/backend/start-backend.ts";
import { rehearsalCase } from "../../site-agent/estimate/rehearsal-material.ts";
import { clipView } from "../../site-agent/preprocessing/training-view.ts";
import { findRecipe } from "../../site-agent/recipes/registry.ts";
import { trainBatches } from "../../site-agent/training/train-locally.ts";
import { answerOfChild } from "./answer-of-child.ts";

/** In which engines still compile. */
const WARM_UPS = 2;
/** On backends that run graphs, in which these are recorded and compared. */
const GRAPH_WARM_UPS = 8;

export type Measured = {
  /** Of the processor: the median of the later steps, and the first. */
  readonly seconds: number;
  readonly firstSeconds: number;
  /** The most that was ever resident. */
  readonly memoryBytes: number;
};

/** @param plan of as many steps as are to be timed, behind those that warm up */
export async function measuredSteps(backend: BackendName, plan: StudyPlan): Promise<Measured> {
  const measured = await answerOfChild(import.meta.url, [CHILD, backend], { message: plan });
  if (measured === undefined) throw new Error("the steps' process ended");
  return measured as Measured; // What the child sends is what is measured below.
}

const CHILD = "--measure-steps";

/** Trains a plan on drawn images in which every organ shows, as the rehearsal's do, under noise. */
export async function trainDrawn(plan: StudyPlan, onStep: (step: number) => void): Promise<void> {
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
  await trainBatches({ parameters: model.parameters, plan: plan.training, onStep }, objective);
}

async function realSteps(backend: BackendName, plan: StudyPlan): Promise<Measured> {
  await startBackend(backend);
  const warmUps = runsGraphs() ? GRAPH_WARM_UPS : WARM_UPS;
  const marks = [processorSeconds()];
  const training = { ...plan.training, stepsPerRound: warmUps + plan.training.stepsPerRound };
  await trainDrawn({ ...plan, training }, () => void marks.push(processorSeconds()));
  const steps = marks.slice(1).map((mark, index) => mark - (marks[index] ?? mark));
  const warm = steps.slice(warmUps).sort((a, b) => a - b);
  const [firstSeconds = Number.NaN] = steps;
  return {
    seconds: warm[Math.floor(warm.length / 2)] ?? Number.NaN,
    firstSeconds,
    memoryBytes: residentMost(),
  };
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

const [word, backend] = process.argv.slice(2);
if (process.send && word === CHILD) {
  process.once("message", async (plan) => {
    process.send?.(await realSteps(backend as BackendName, plan as StudyPlan)); // As sent above.
    process.disconnect();
  });
}
