// The very training step of a plan, run on a backend that computes nothing: which kernels it calls with which shapes,
// how much memory its tensors take at once, and what the work outside of kernels costs, which is really done.

import { parameterCount } from "@consilium/shared/model/parameter-manifest.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { graphBranches, runsGraphs } from "../backend/graph/graph-compiler.ts";
import { clipView } from "../preprocessing/training-view.ts";
import type { RecipeModel } from "../recipes/recipe.ts";
import { findRecipe } from "../recipes/registry.ts";
import { trainBatches } from "../training/train-locally.ts";
import type { CountedCalls, KernelCall } from "./kernel-call.ts";
import { inRehearsal, type Rehearsal, type RehearsedGraphs } from "./rehearsal-backend.ts";
import { drawnAnswer, rehearsalMaterial } from "./rehearsal-material.ts";
import { timeCall } from "./time-call.ts";

export type RehearsedStep = {
  /** Of one step; calls that cost the same are one entry. */
  readonly calls: CountedCalls;
  readonly graphs: RehearsedGraphs;
  /** Tensors of the backend at most, weights, optimiser and scratch space included. */
  readonly tensorBytes: number;
  /** Of the step's own code and the framework's, without any kernel's arithmetic. */
  readonly hostSeconds: number;
  /** Of these, what any call of a kernel costs. */
  readonly callSeconds: number;
  /** Resident memory of this process at most, without the tensors, which are not there. */
  readonly residentBytes: number;
};

export type Gauges = {
  /** Of processor time that this process has used. */
  readonly seconds: () => number;
  readonly residentBytes: () => number;
};

/** One step counts, later ones are timed, when the code has been compiled. */
const STEPS_MAX = 7;
/** After which no further step begins. */
const SECONDS_MAX = 5;

/**
 * @param branches of the graphs that computations become, as on the running backend; 0 for none
 * @throws EstimateError
 */
export async function rehearseStep(
  plan: StudyPlan,
  gauges: Gauges,
  branches = graphBranches(),
): Promise<RehearsedStep> {
  const recipe = findRecipe(plan.recipe);
  const specs = recipe.parameters(plan.recipe.config);
  const zeros = new Float32Array(Math.max(...specs.map((spec) => parameterCount([spec]))));
  // All weights are the same zeros: their numbers are never looked at.
  const weights = new Map(specs.map((spec) => [spec.name, zeros.subarray(0, parameterCount([spec]))]));
  const act = async (rehearsal: Rehearsal): Promise<RehearsedStep> => {
    const model = recipe.open(plan.recipe.config, weights);
    try {
      return await rehearsed(plan, model, rehearsal, gauges);
    } finally {
      model.dispose();
    }
  };
  return inRehearsal(drawnAnswer, act, branches);
}

async function rehearsed(
  plan: StudyPlan,
  { parameters, objective }: RecipeModel,
  rehearsal: Rehearsal,
  { seconds, residentBytes }: Gauges,
): Promise<RehearsedStep> {
  const { preprocessing, training } = plan;
  const material = rehearsalMaterial(plan, clipView({ preprocessing, ...training }));
  const enough = new AbortController();
  const marks = [seconds()];
  const resident = [residentBytes()];
  // Where computations become graphs they do so in the first step; the second one runs them.
  const countedStep = runsGraphs() ? 2 : 1;
  if (countedStep === 1) rehearsal.startCounting();
  const onStep = (step: number): void => {
    marks.push(seconds());
    resident.push(residentBytes());
    if (step + 1 === countedStep) rehearsal.startCounting();
    if (step === countedStep) rehearsal.stopCounting();
    if (step >= countedStep && seconds() - (marks[0] ?? 0) > SECONDS_MAX) enough.abort();
  };
  const loop = { parameters, plan: { ...training, stepsPerRound: STEPS_MAX }, onStep, signal: enough.signal };
  try {
    await trainBatches(loop, objective(material));
  } catch (error) {
    if (!enough.signal.aborted) throw error;
  }
  const steps = marks.slice(1).map((mark, index) => mark - (marks[index] ?? mark));
  return {
    calls: [...rehearsal.calls.values()],
    graphs: rehearsal.graphs,
    tensorBytes: rehearsal.peakBytes,
    hostSeconds: median(steps.length > countedStep ? steps.slice(countedStep) : steps.slice(-1)),
    callSeconds: await smallCallSeconds(seconds),
    residentBytes: Math.max(...resident),
  };
}

const SMALL_CALLS = 20;
const SCALAR = { shape: [], dtype: "float32" } as const;
const SMALL_CALL: KernelCall = {
  kernel: "Multiply",
  inputs: { a: SCALAR, b: SCALAR },
  isList: false,
  attributes: {},
  outputs: [SCALAR],
};

/** The least of several: what disturbs only adds. */
async function smallCallSeconds(seconds: () => number): Promise<number> {
  const all: number[] = [];
  for (let index = 0; index < SMALL_CALLS; index += 1) all.push(await timeCall(SMALL_CALL, seconds));
  return Math.min(...all);
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
