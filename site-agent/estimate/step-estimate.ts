// What one training step of a plan takes on this machine: processor time and memory of the training process. The step is
// rehearsed without numbers and its kernels are timed one by one; the step itself is never run. Not in it: the
// prepared images, the first steps, in which code is still being compiled, and waiting for other processes.

import { parameterCount } from "@consilium/shared/model/parameter-manifest.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { type Static, Type } from "typebox";
import { BACKEND_NAMES, type BackendName } from "../backend/backend-report.ts";
import { runsGraphs } from "../backend/graph/graph-compiler.ts";
import { findRecipe } from "../recipes/registry.ts";
import type { CountedCalls } from "./kernel-call.ts";
import { kernelWork, WORK_KINDS, type WorkKind } from "./kernel-work.ts";
import { type Gauges, type RehearsedStep, rehearseStep } from "./rehearse-step.ts";
import { type GraphOverhead, graphOverhead } from "./time-in-graphs.ts";
import { timeKernels } from "./time-kernels.ts";

const closed = { additionalProperties: false };
const Amount = Type.Number({ minimum: 0 });
const Work = Type.Object({ calls: Amount, flops: Amount, bytes: Amount }, closed);

export const StepEstimate = Type.Object(
  {
    backend: Type.Enum([...BACKEND_NAMES]),
    /** Of the processor, or where a GPU computes, as time passes. */
    seconds: Amount,
    /** Of these, outside of kernels: drawing samples, prompts, the framework. */
    hostSeconds: Amount,
    /** Of the kernels' time, what was timed and not inferred from other shapes. */
    timedShare: Type.Number({ minimum: 0, maximum: 1 }),
    /** Resident memory of the training process at most: what follows, together. */
    memoryBytes: Amount,
    /** In the backend. */
    tensorBytes: Amount,
    /** Everything else: the program, the framework's records, weights before and after. */
    hostBytes: Amount,
    /** Floating-point operations of products and convolutions, bytes that kernels read and write, calls. */
    work: Type.Object({ products: Work, convolutions: Work, depthwise: Work, elementwise: Work }, closed),
  },
  closed,
);
export type StepEstimate = Static<typeof StepEstimate>;

/** Timing of kernels; with start and rehearsal the whole stays below 20 seconds. */
const KERNEL_SECONDS_MAX = 9;
/** A kernel whose tensors are larger is not timed: its neighbours' rate stands for it. */
const KERNEL_BYTES_MAX = 2 ** 30;
const FLOAT_BYTES = 4;
/**
 * Of TensorFlow, found by `npm run bench -- step-estimate --backend tfjs-node`: a node of a graph, as it was written, loaded
 * and arranged, and how much memory tensors take in all for what they take at once. TensorFlow cuts them out of
 * regions that it never gives back, and its convolutions turn what they read and write into an order of their own.
 */
const GRAPH_NODE_BYTES = 36_000;
const TENSORFLOW_ROOM = 1.4;

/**
 * The backend must have been started in this process.
 * @param kernelSecondsMax for tests
 * @throws EstimateError, RecipeError
 */
export async function estimateStep(
  backend: BackendName,
  plan: StudyPlan,
  gauges: Gauges,
  kernelSecondsMax = KERNEL_SECONDS_MAX,
): Promise<StepEstimate> {
  const recipe = findRecipe(plan.recipe);
  const rehearsed = await rehearseStep(plan, gauges);
  const { calls, graphs, callSeconds, residentBytes } = rehearsed;
  const overhead = runsGraphs() ? graphOverhead(gauges.seconds) : null;
  const room = { secondsMax: kernelSecondsMax, bytesMax: KERNEL_BYTES_MAX };
  const kernels = await timeKernels(calls, { ...room, callSeconds, graphOverhead: overhead }, gauges.seconds);
  const hostSeconds = rehearsed.hostSeconds + secondsOfRuns(graphs, overhead);
  // The weights that training starts from, and of the trained ones a copy read back, the change, and both added.
  const weights = parameterCount(recipe.parameters(plan.recipe.config));
  const trained = parameterCount(recipe.trainable(plan.recipe.config));
  const hostBytes = residentBytes + FLOAT_BYTES * (weights + 3 * trained) + graphs.nodes * GRAPH_NODE_BYTES;
  const tensorBytes = Math.round((runsGraphs() ? TENSORFLOW_ROOM : 1) * rehearsed.tensorBytes);
  return {
    backend,
    seconds: hostSeconds + kernels.seconds,
    hostSeconds,
    timedShare: kernels.timedShare,
    memoryBytes: hostBytes + tensorBytes,
    tensorBytes,
    hostBytes,
    work: workByKind(calls),
  };
}

function secondsOfRuns({ runs, tensors }: RehearsedStep["graphs"], overhead: GraphOverhead | null): number {
  return overhead ? runs * overhead.runSeconds + tensors * overhead.tensorSeconds : 0;
}

export function workByKind(calls: CountedCalls): StepEstimate["work"] {
  const none = () => ({ calls: 0, flops: 0, bytes: 0 });
  const sums: Record<WorkKind, { calls: number; flops: number; bytes: number }> = {
    products: none(),
    convolutions: none(),
    depthwise: none(),
    elementwise: none(),
  };
  for (const { call, count } of calls) {
    const { kind, flops, bytes } = kernelWork(call);
    sums[kind].calls += count;
    sums[kind].flops += count * flops;
    sums[kind].bytes += count * bytes;
  }
  return sums;
}

export function flopsOf({ work }: Pick<StepEstimate, "work">): number {
  return WORK_KINDS.reduce((sum, kind) => sum + work[kind].flops, 0);
}

export function callsOf({ work }: Pick<StepEstimate, "work">): number {
  return WORK_KINDS.reduce((sum, kind) => sum + work[kind].calls, 0);
}
