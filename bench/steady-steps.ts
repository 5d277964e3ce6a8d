// Whether training takes more and more: tensors, the wasm heap and resident memory of a training process at the fifth part
// of many steps and at their end, behind a full collection of JavaScript's garbage each. Prints JSON; growth is a share.
// npm run bench -- steady-steps [--backend NAME] [--steps N] [PLAN...]

import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { BackendName } from "../site-agent/backend/backend-report.ts";
import { startBackend } from "../site-agent/backend/start-backend.ts";
import { tf } from "../site-agent/backend/tensors.ts";
import { installTrainingKernels } from "../site-agent/backend/wasm-kernels/install.ts";
import { answerOfChild } from "./steps/answer-of-child.ts";
import { backendNamed, machine } from "./steps/machine.ts";
import { refinedPlan, unetPlan } from "./steps/plans.ts";
import { trainDrawn } from "./steps/real-steps.ts";

const PLANS: Readonly<Record<string, () => StudyPlan>> = {
  "unet 8, 96 px, batch 16": () => unetPlan(8, 96, 16),
  "micro 64 px, adapters": () => refinedPlan({ variant: "micro", imageSize: 64, trains: "adapters" }),
  "pretrained-micro 128 px, joint": () =>
    refinedPlan({ variant: "pretrained-micro", imageSize: 128, trains: "joint" }),
};
/** By then every form of a step has been met and every graph is trusted. */
const FIRST_SHARE = 0.2;

type Sample = {
  readonly step: number;
  readonly tensors: number;
  readonly heapBytes: number | null;
  readonly residentBytes: number;
};

async function samples(backend: BackendName, plan: StudyPlan, steps: number): Promise<Sample[]> {
  await startBackend(backend);
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as () => void; // What the flag exposes.
  const heap = backend === "wasm" ? installTrainingKernels().heap : null;
  const first = Math.floor(FIRST_SHARE * steps);
  const found: Sample[] = [];
  const training = { ...plan.training, stepsPerRound: steps };
  await trainDrawn({ ...plan, training }, (step) => {
    if (step !== first && step !== steps) return;
    collect();
    const { numTensors: tensors } = tf.memory();
    const residentBytes = process.memoryUsage.rss();
    found.push({ step, tensors, heapBytes: heap?.heapBytes ?? null, residentBytes });
  });
  return found;
}

function grown(of: readonly Sample[]): object {
  const [first, last] = [expectDefined(of[0], "a first sample"), expectDefined(of[1], "a last sample")];
  const growth = (before: number, after: number): number => Number((after / before - 1).toFixed(4));
  return {
    tensors: last.tensors - first.tensors,
    wasmHeap: first.heapBytes && last.heapBytes ? growth(first.heapBytes, last.heapBytes) : null,
    resident: growth(first.residentBytes, last.residentBytes),
  };
}

const { values, positionals } = parseArgs({
  options: {
    backend: { type: "string", default: "wasm" },
    steps: { type: "string", default: "500" },
    /** For the child. */
    train: { type: "string" },
  },
  allowPositionals: true,
});
const backend = backendNamed(values.backend);
const steps = Number(values.steps);
if (process.send && values.train !== undefined) {
  process.send(await samples(backend, expectDefined(PLANS[values.train], values.train)(), steps));
  process.disconnect();
} else {
  const results: object[] = [];
  for (const name of Object.keys(PLANS)) {
    if (positionals.length > 0 && !positionals.includes(name)) continue;
    const words = ["--backend", backend, "--steps", String(steps), "--train", name];
    const found = (await answerOfChild(import.meta.url, words)) as Sample[] | undefined; // What the child sends.
    const result = { name, ...(found ? { samples: found, growth: grown(found) } : { failed: true }) };
    console.error(JSON.stringify(result));
    results.push(result);
  }
  console.log(JSON.stringify({ machine: machine(), backend, steps, results }, undefined, 2));
}
