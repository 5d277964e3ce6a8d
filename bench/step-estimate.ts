// How well `consilium-site check` foretells a training step: for several plans the estimate beside real steps in a
// process of their own. Prints one JSON document, and every result on standard error as it comes; seconds are the
// processor's, memory is the most that was ever resident.
// npm run bench -- step-estimate [--backend NAME] [PLAN...]

import { parseArgs } from "node:util";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { BackendName } from "../site-agent/backend/backend-report.ts";
import { estimateInChild } from "../site-agent/estimate/estimate-in-child.ts";
import { backendNamed, machine } from "./steps/machine.ts";
import { refinedPlan, SLICES_OF_TWO, unetPlan } from "./steps/plans.ts";
import { measuredSteps } from "./steps/real-steps.ts";

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
    refinedPlan({ variant: "tiny", imageSize: 1024, trains: "adapters", clip: SLICES_OF_TWO, steps: 1 }),
};
const MIB = 2 ** 20;

async function compare(backend: BackendName, name: string, plan: StudyPlan): Promise<object> {
  const estimate = await estimateInChild({ backend }, plan);
  const measured = await measuredSteps(backend, plan);
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

const { values, positionals: wanted } = parseArgs({
  options: { backend: { type: "string", default: "wasm" } },
  allowPositionals: true,
});
const backend = backendNamed(values.backend);
const results: object[] = [];
for (const [name, plan] of Object.entries(PLANS)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const result = await compare(backend, name, plan());
  console.error(JSON.stringify(result));
  results.push(result);
}
console.log(JSON.stringify({ machine: machine(), backend, results }, undefined, 2));
