// What one training step of a plan takes on this machine, as a report for the site's engineer: time, memory, and the
// bounds that it goes beyond. The estimate runs in a process of its own and never runs the step.

import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { GPU_BACKENDS } from "../backend/backend-report.ts";
import type { ProductFormat } from "../backend/graph/compiled-graph.ts";
import {
  boundText,
  exceededBounds,
  type MemoryBound,
  mebibytes,
  tensorBytesMax,
} from "../estimate/memory-bounds.ts";
import { callsOf, flopsOf, type StepEstimate } from "../estimate/step-estimate.ts";

export type StepReport = StepEstimate & {
  /** Free on this machine, or within the limit set to this process. */
  readonly availableBytes: number;
  readonly exceeded: readonly MemoryBound[];
};

export type StepReporter = (backend: string, plan: StudyPlan) => Promise<StepReport>;

/** It throws EstimateError `estimate.unavailable`. @param products of graphs */
export function measuredStep(products: ProductFormat): StepReporter {
  return async (backend, plan) => {
    const { estimateInChild } = await import("../estimate/estimate-in-child.ts");
    // Before the estimate's own process takes some of it.
    const availableBytes = process.availableMemory();
    return stepReport(await estimateInChild({ backend, products }, plan), availableBytes);
  };
}

export function stepReport(estimate: StepEstimate, availableBytes: number): StepReport {
  return { ...estimate, availableBytes, exceeded: exceededBounds(estimate, availableBytes) };
}

export function stepLines(report: StepReport, { training }: Pick<StudyPlan, "training">): string[] {
  const { backend, seconds, hostSeconds, memoryBytes, tensorBytes, hostBytes, timedShare } = report;
  const clock = GPU_BACKENDS.includes(backend) ? "" : " of processor time";
  const most = tensorBytesMax(backend);
  const room = most === null ? "" : ` of ${mebibytes(most)} MiB`;
  const { stepsPerRound } = training;
  return [
    `Step      about ${rounded(seconds)} s${clock} and ${mebibytes(memoryBytes)} MiB of memory on ${backend}; prepared images come on top`,
    `          tensors ${mebibytes(tensorBytes)} MiB${room}, the rest of the process ${mebibytes(hostBytes)} MiB; available here ${mebibytes(report.availableBytes)} MiB`,
    `          ${rounded(flopsOf(report) / 1e9)} GFLOP in ${callsOf(report)} calls of kernels; ${rounded(hostSeconds)} s outside of them`,
    `          a round of ${stepsPerRound} steps: about ${duration(stepsPerRound * seconds)}${clock}`,
    ...(timedShare < TIMED_SHARE_SURE
      ? [
          `          only ${Math.round(100 * timedShare)} % of the kernels' time was timed here; the rest is inferred`,
        ]
      : []),
    ...report.exceeded.map((bound) => `  DOES NOT FIT: ${boundText(bound)}`),
    ...(report.exceeded.length > 0 ? [`  ${ADVICE}`] : []),
  ];
}

const MINUTE_SECONDS = 60;
const TIMED_SHARE_SURE = 0.9;
const ADVICE =
  "Ask the operator for a smaller batch, patch or image size or for recomputation, or use another machine or backend.";

function duration(seconds: number): string {
  if (seconds < 2 * MINUTE_SECONDS) return `${rounded(seconds)} s`;
  const minutes = seconds / MINUTE_SECONDS;
  return minutes < 120 ? `${rounded(minutes)} minutes` : `${rounded(minutes / 60)} hours`;
}

function rounded(value: number): string {
  return value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(2)));
}
