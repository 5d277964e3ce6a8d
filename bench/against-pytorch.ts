// Training steps beside PyTorch's on the same weights and data, in one run. A figure counts only where loss and gradients
// agree. Prints one JSON document; ratios are ours over PyTorch's, below 1 where we are faster.
// npm run bench -- against-pytorch [unet|sam2] [PIXELS]

import { join } from "node:path";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { BackendName } from "../site-agent/backend/backend-report.ts";
import type { ProductFormat } from "../site-agent/backend/graph/compiled-graph.ts";
import { tryBfloat16 } from "../site-agent/backend/graph/product-format.ts";
import { startBackend } from "../site-agent/backend/start-backend.ts";
import { tensorFlowThreads } from "../site-agent/backend/tensorflow-threads.ts";
import { tf } from "../site-agent/backend/tensors.ts";
import { fromLayout } from "../site-agent/models/tensor-layout.ts";
import { Optimiser } from "../site-agent/training/optimiser.ts";
import {
  printBesidePyTorch,
  printedBy,
  printedInBestLayout,
  readFloats,
  root,
} from "./pytorch/environment.ts";
import { sam2Step } from "./pytorch/sam2-step.ts";
import type { OpenedStep, PyTorchStep } from "./pytorch/step.ts";
import { unetStep } from "./pytorch/unet-step.ts";
import { answerOfChild } from "./steps/answer-of-child.ts";

type Measured = {
  readonly loss: number;
  /** Largest relative L2 error against double precision. */
  readonly gradientError: number;
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
};

const STEPS: Readonly<Record<string, readonly PyTorchStep[]>> = {
  unet: [
    unetStep({ features: [32, 64, 128, 256, 512, 512, 512], pixels: 256, batch: 4 }, 5),
    unetStep({ features: [16, 32, 64, 128], pixels: 64, batch: 16 }, 20),
  ],
  sam2: [256, 512].flatMap((pixels) => [1, 2].map((batch) => sam2Step({ pixels, batch }, 5))),
};
type Way = {
  readonly backend: BackendName;
  /** In which a step is recorded, compared with eager execution, and run once; or in which engines compile. */
  readonly warmUps: number;
  readonly products?: ProductFormat;
};

const WAYS: Readonly<Record<string, Way>> = {
  "tfjs-node": { backend: "tfjs-node", warmUps: 7 },
  "tfjs-node, bfloat16 products": { backend: "tfjs-node", warmUps: 7, products: "bfloat16" },
  wasm: { backend: "wasm", warmUps: 2 },
};
const THREADS = [1, 2];
const LOSS_ERROR_MAX = 1e-4;
/** The goldens' bound, or so many times what PyTorch's own single precision has. */
const GRADIENT_ERROR_MAX = 1e-3;
const GRADIENT_ERROR_FACTOR = 3;
/** Of the largest gradient, below which a difference is rounding: biases in front of a norm have no gradient. */
const NULL_SHARE = 1e-5;

/** In a process of its own, with the number of threads in its environment. */
async function measureHere({ open, runs }: PyTorchStep, folder: string, warmUps: number): Promise<Measured> {
  const step = await open(folder);
  const gradientError = await compiledGradientsError(step, folder, warmUps);
  const optimiser = new Optimiser(step.parameters, step.plan);
  const [seconds, walls]: [number[], number[]] = [[], []];
  let loss = Number.NaN;
  for (let index = 0; index < warmUps + runs; index += 1) {
    const [cpu, wall] = [process.cpuUsage(), performance.now()];
    const taken = await optimiser.step(await step.differentiate(), step.plan.learningRate);
    if (index === 0) loss = taken.loss;
    const { user, system } = process.cpuUsage(cpu);
    if (index < warmUps) continue;
    seconds.push((user + system) / 1e6);
    walls.push((performance.now() - wall) / 1000);
  }
  const middle = seconds.sort((a, b) => a - b)[Math.floor(runs / 2)] ?? Number.NaN;
  return { loss, gradientError, cpuSeconds: middle, wallSeconds: Math.min(...walls) };
}

/** Of the gradients that later steps are made of, before a step has changed the weights. */
async function compiledGradientsError(step: OpenedStep, folder: string, warmUps: number): Promise<number> {
  for (let left = warmUps; left > 0; left -= 1) {
    const { value, grads } = await step.differentiate();
    tf.dispose([value, [...grads]]);
  }
  const { value, grads } = await step.differentiate();
  const found = grads.map((gradient) => gradient.dataSync() as Float32Array); // All float32.
  tf.dispose([value, [...grads]]);
  return gradientsError(folder, step, found);
}

/** The largest relative L2 error of a gradient against PyTorch's. */
async function gradientsError(
  folder: string,
  { specs, layoutOf }: OpenedStep,
  found: readonly Float32Array[],
): Promise<number> {
  const expected = await readFloats(join(folder, "gradients.safetensors"));
  const norm = (values: Float32Array): number =>
    Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0));
  const largest = Math.max(...[...expected.values()].map(norm));
  const errors = specs.map((spec, index) => {
    const ours = fromLayout(expectDefined(found[index], spec.name), spec.shape, layoutOf(spec));
    const theirs = expectDefined(expected.get(spec.name), spec.name);
    const difference = norm(ours.map((value, place) => value - (theirs[place] ?? Number.NaN)));
    return difference <= NULL_SHARE * largest ? 0 : difference / norm(theirs);
  });
  return Math.max(...errors);
}

async function measureInChild(words: readonly string[], threads: number): Promise<Measured | null> {
  const measured = await answerOfChild(import.meta.url, words, { environment: tensorFlowThreads(threads) });
  return (measured as Measured | undefined) ?? null; // What the child below sends.
}

function compared(ours: Measured | null, pytorch: Measured, referenceLoss: number): object {
  if (!ours) return { skipped: "this is not to be had here" };
  const lossError = Math.abs(ours.loss - referenceLoss) / Math.abs(referenceLoss);
  const errorMax = Math.max(GRADIENT_ERROR_MAX, GRADIENT_ERROR_FACTOR * pytorch.gradientError);
  const counts = lossError <= LOSS_ERROR_MAX && ours.gradientError <= errorMax;
  const ratios = {
    cpuRatio: ours.cpuSeconds / pytorch.cpuSeconds,
    wallRatio: ours.wallSeconds / pytorch.wallSeconds,
  };
  return { ...ours, lossError, ...(counts ? ratios : { doesNotCount: "loss or gradients differ" }) };
}

async function compare(kind: string, index: number): Promise<object[]> {
  const step = stepAt(kind, index);
  const folder = join(root, "data/bench-tasks", `${kind}-${index}`);
  await startBackend("wasm"); // With which a task's images are made.
  await step.write(folder);
  const { loss } = (await printedBy(step.script, [folder, "reference"])) as { loss: number }; // What it prints.
  const rows: object[] = [];
  for (const threads of THREADS) {
    const words = [folder, String(threads), String(step.runs)];
    const pytorch = await printedInBestLayout<Measured>(step.script, words);
    const row: Record<string, unknown> = { ...step.row, threads, pytorch };
    for (const [way, { backend }] of Object.entries(WAYS)) {
      if (backend === "wasm" && threads > 1) continue; // It has one.
      const ours = await measureInChild([way, kind, String(index), folder], threads);
      row[way] = compared(ours, pytorch, loss);
    }
    console.error(JSON.stringify(row));
    rows.push(row);
  }
  return rows;
}

function stepAt(kind: string, index: number): PyTorchStep {
  return expectDefined(STEPS[kind]?.[index], `step ${index} of ${kind}`);
}

/** Of what was asked for, all of it by default. */
function wantedSteps(kind: string | undefined, pixels: string | undefined): [kind: string, index: number][] {
  return Object.entries(STEPS).flatMap(([name, steps]) =>
    steps.flatMap(({ row }, index): [string, number][] => {
      const isWanted = (kind ?? name) === name && (pixels ?? String(row.pixels)) === String(row.pixels);
      return isWanted ? [[name, index]] : [];
    }),
  );
}

const [first, second = "", index, folder] = process.argv.slice(2);
if (process.send && folder) {
  const { backend, warmUps, products } = expectDefined(WAYS[first ?? ""], "a way to compute");
  await startBackend(backend);
  if (products !== "bfloat16" || tryBfloat16().isUsed)
    process.send(await measureHere(stepAt(second, Number(index)), folder, warmUps));
  process.disconnect();
} else {
  await printBesidePyTorch(async () => {
    const results: object[] = [];
    for (const [kind, index] of wantedSteps(first, second || undefined))
      results.push(...(await compare(kind, index)));
    return results;
  });
}
