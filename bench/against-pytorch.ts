// A training step of the UNet beside PyTorch's on the same weights and data, in one run: PyTorch and nnU-Net's own
// architectures come from PyPI into a virtual environment under data/. A figure counts only where loss and gradients
// agree. Prints one JSON document; ratios are ours over PyTorch's, below 1 where we are faster.
// node --import tsx bench/against-pytorch.ts

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import {
  float32Tensor,
  float32Values,
  readTensorBundle,
  writeTensorBundle,
} from "@consilium/shared/encoding/tensor-bundle.ts";
import {
  type PlainConvUNetConfig,
  parsePlainConvUNetConfig,
  plainConvUNetParameters,
  supervisedLevelCount,
} from "@consilium/shared/model/plain-conv-unet.ts";
import { initialPlainConvUNetWeights } from "@consilium/shared/model/plain-conv-unet-weights.ts";
import { startBackend } from "../site-agent/backend/start-backend.ts";
import { fromLayout } from "../site-agent/models/tensor-layout.ts";
import { unetPrompter } from "../site-agent/recipes/unet-prompter.ts";
import { ADAMW_DEFAULTS, initialAdamW } from "../site-agent/training/adamw.ts";
import { compiledGradients } from "../site-agent/training/slice-objective.ts";
import { stepWith } from "../site-agent/training/train-step.ts";
import { batchTensors, type TrainingSlice } from "../site-agent/training/training-slice.ts";
import { answerOfChild } from "./steps/answer-of-child.ts";

type Workload = {
  readonly features: readonly number[];
  readonly size: number;
  readonly batch: number;
  readonly runs: number;
};
type Task = {
  readonly config: PlainConvUNetConfig;
  readonly levels: number;
  readonly size: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly gradientNormL2Max: number;
};
type Measured = {
  readonly loss: number;
  /** Largest relative L2 error against double precision. */
  readonly gradientError: number;
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
};

const WORKLOADS: readonly Workload[] = [
  { features: [32, 64, 128, 256, 512, 512, 512], size: 256, batch: 4, runs: 5 },
  { features: [16, 32, 64, 128], size: 64, batch: 16, runs: 20 },
];
const BACKENDS = ["tfjs-node", "wasm"] as const;
const THREADS = [1, 2];
/** In which a step is recorded, compared with eager execution, and run once. */
const WARM_UPS = 7;
const PACKAGES = ["torch==2.15.0", "dynamic-network-architectures==0.4.4"];
const LOSS_ERROR_MAX = 1e-4;
/** The goldens' bound, or so many times what PyTorch's own single precision has. */
const GRADIENT_ERROR_MAX = 1e-3;
const GRADIENT_ERROR_FACTOR = 3;
/** Of the largest gradient, below which a difference is rounding: biases in front of a norm have no gradient. */
const NULL_SHARE = 1e-5;

const run = promisify(execFile);
const root = fileURLToPath(new URL("..", import.meta.url));
const environment = join(root, "data/bench-pytorch");
const python = join(environment, "bin/python");
const script = fileURLToPath(new URL("pytorch/unet_step.py", import.meta.url));

/** Made once, 5.5 GB with the CUDA libraries that PyPI's PyTorch asks for. */
async function makeEnvironment(): Promise<void> {
  if (existsSync(join(environment, "complete"))) return;
  console.error(`making ${environment} with ${PACKAGES.join(" and ")}; a few minutes`);
  await mkdir(environment, { recursive: true });
  await run("python3", ["-m", "venv", environment]);
  await run(python, ["-m", "pip", "install", "--quiet", ...PACKAGES], { maxBuffer: 2 ** 24 });
  await writeFile(join(environment, "complete"), "");
}

function configOf(features: readonly number[]): PlainConvUNetConfig {
  return parsePlainConvUNetConfig({
    ...{ inputChannels: 1, classCount: 3, deepSupervision: true, featuresPerStage: features },
    kernelSizes: features.map(() => [3, 3]),
    strides: features.map((_, stage) => (stage === 0 ? [1, 1] : [2, 2])),
    convsPerStage: features.map(() => 2),
    convsPerStageDecoder: features.slice(1).map(() => 2),
  });
}

async function writeTask(folder: string, { features, size, batch }: Workload): Promise<void> {
  const config = configOf(features);
  const prng = Prng.labelled(1, "against PyTorch");
  const pixels = batch * size * size;
  const images = Float32Array.from({ length: pixels }, () => prng.normal());
  const classes = Float32Array.from({ length: pixels }, () => (prng.chance(0.3) ? prng.int(1, 2) : 0));
  const weights = initialPlainConvUNetWeights(config, 1);
  const task: Task = {
    ...{ config, levels: supervisedLevelCount(config), size },
    ...{ learningRate: 1e-3, weightDecay: 0.01, gradientNormL2Max: 12 },
  };
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "task.json"), JSON.stringify(task));
  const batchTensorList = [
    float32Tensor("images", [batch, size, size, 1], images),
    float32Tensor("classes", [batch, size, size], classes),
  ];
  await writeFile(join(folder, "batch.safetensors"), writeTensorBundle(batchTensorList));
  const weightTensorList = plainConvUNetParameters(config).map(({ name, shape }) =>
    float32Tensor(name, shape, expectDefined(weights.get(name), name)),
  );
  await writeFile(join(folder, "weights.safetensors"), writeTensorBundle(weightTensorList));
}

async function readFloats(file: string): Promise<Map<string, Float32Array>> {
  const { tensors } = readTensorBundle(new Uint8Array(await readFile(file)));
  return new Map([...tensors].map(([name, tensor]) => [name, float32Values(tensor)]));
}

/** The better of PyTorch's two memory formats. */
async function measurePyTorch(folder: string, threads: number, runs: number): Promise<object & Measured> {
  let best: (Measured & { readonly layout: string; readonly version: string }) | undefined;
  for (const layout of ["contiguous", "channels_last"]) {
    const { stdout } = await run(python, [script, folder, String(threads), String(runs), layout]);
    const found = { ...(JSON.parse(stdout) as Measured & { version: string }), layout }; // The script's own.
    if (!best || found.cpuSeconds < best.cpuSeconds) best = found;
  }
  return expectDefined(best, "a layout");
}

/** In a process of its own, with the number of threads in its environment. */
async function measureHere(backend: string, folder: string, runs: number): Promise<Measured> {
  const task = JSON.parse(await readFile(join(folder, "task.json"), "utf8")) as Task; // Written above.
  await startBackend(backend as (typeof BACKENDS)[number]); // One of them, as the parent chose.
  const model = unetPrompter.build(task.config, await readFloats(join(folder, "weights.safetensors")));
  const tensors = batchTensors(await slicesOf(folder, task), [0, 1, 2]);
  const plan = { ...ADAMW_DEFAULTS, ...task };
  const compiled = compiledGradients({ model, loss: unetPrompter.loss }, ({ code, reason }) =>
    console.error(`${code}: ${reason}`),
  );
  let state = initialAdamW(model.parameters.trainable());
  const [seconds, walls]: number[][] = [[], []];
  let [loss, gradientError] = [Number.NaN, Number.NaN];
  for (let index = 0; index < WARM_UPS + runs; index += 1) {
    const [cpu, wall] = [process.cpuUsage(), performance.now()];
    const differentiated = compiled.differentiate(tensors);
    if (index === 0) {
      const grads = differentiated.grads.map((gradient) => gradient.dataSync() as Float32Array); // All float32.
      gradientError = await gradientsError(folder, task, model.parameters.trainableNames, grads);
    }
    const taken = await stepWith(model.parameters, differentiated, state, plan);
    state = taken.state;
    if (index === 0) loss = taken.loss;
    const { user, system } = process.cpuUsage(cpu);
    if (index < WARM_UPS) continue;
    seconds?.push((user + system) / 1e6);
    walls?.push((performance.now() - wall) / 1000);
  }
  const middle = seconds?.sort((a, b) => a - b)[Math.floor(runs / 2)] ?? Number.NaN;
  return { loss, gradientError, cpuSeconds: middle, wallSeconds: Math.min(...(walls ?? [])) };
}

async function slicesOf(folder: string, { size }: Task): Promise<TrainingSlice[]> {
  const batch = await readFloats(join(folder, "batch.safetensors"));
  const [images, classes] = ["images", "classes"].map((name) => expectDefined(batch.get(name), name));
  const pixels = size * size;
  return Array.from({ length: (images?.length ?? 0) / pixels }, (_, index) => ({
    image: images?.slice(index * pixels, (index + 1) * pixels) ?? new Float32Array(),
    labels: Uint8Array.from(classes?.slice(index * pixels, (index + 1) * pixels) ?? []),
    ...{ height: size, width: size, channels: 1, contoured: [1, 2] },
  }));
}

/** The largest relative L2 error of a gradient against PyTorch's. */
async function gradientsError(
  folder: string,
  { config }: Task,
  names: readonly string[],
  found: readonly Float32Array[],
): Promise<number> {
  const expected = await readFloats(join(folder, "gradients.safetensors"));
  const shapes = new Map(plainConvUNetParameters(config).map(({ name, shape }) => [name, shape]));
  const norm = (values: Float32Array): number =>
    Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0));
  const largest = Math.max(...[...expected.values()].map(norm));
  const errors = names.map((name, index) => {
    const shape = expectDefined(shapes.get(name), name);
    const layout = shape.length === 4 ? "kernel" : "plain";
    const ours = fromLayout(expectDefined(found[index], name), shape, layout);
    const theirs = expectDefined(expected.get(name), name);
    const difference = norm(ours.map((value, place) => value - (theirs[place] ?? Number.NaN)));
    return difference <= NULL_SHARE * largest ? 0 : difference / norm(theirs);
  });
  return Math.max(...errors);
}

async function measureInChild(
  backend: string,
  threads: number,
  folder: string,
  runs: number,
): Promise<Measured | null> {
  const environment = { TF_NUM_INTRAOP_THREADS: String(threads), TF_NUM_INTEROP_THREADS: "1" };
  const words = [backend, folder, String(runs)];
  const measured = await answerOfChild(import.meta.url, words, { environment });
  return (measured as Measured | undefined) ?? null; // What the child below sends.
}

function compared(ours: Measured | null, pytorch: Measured, referenceLoss: number): object {
  if (!ours) return { skipped: "the backend is not installed here" };
  const lossError = Math.abs(ours.loss - referenceLoss) / Math.abs(referenceLoss);
  const errorMax = Math.max(GRADIENT_ERROR_MAX, GRADIENT_ERROR_FACTOR * pytorch.gradientError);
  const counts = lossError <= LOSS_ERROR_MAX && ours.gradientError <= errorMax;
  const ratios = {
    cpuRatio: ours.cpuSeconds / pytorch.cpuSeconds,
    wallRatio: ours.wallSeconds / pytorch.wallSeconds,
  };
  return { ...ours, lossError, ...(counts ? ratios : { doesNotCount: "loss or gradients differ" }) };
}

async function compareAll(): Promise<object[]> {
  const rows: object[] = [];
  for (const [index, workload] of WORKLOADS.entries()) {
    const folder = join(root, "data/bench-tasks", String(index));
    await writeTask(folder, workload);
    const { stdout } = await run(python, [script, folder, "reference"]);
    const { loss } = JSON.parse(stdout) as { loss: number }; // The script's own.
    for (const threads of THREADS) {
      const pytorch = await measurePyTorch(folder, threads, workload.runs);
      const row: Record<string, object> = { pytorch };
      for (const backend of BACKENDS) {
        if (backend === "wasm" && threads > 1) continue; // It has one.
        row[backend] = compared(await measureInChild(backend, threads, folder, workload.runs), pytorch, loss);
      }
      console.error(JSON.stringify({ ...workload, threads, ...row }));
      rows.push({ ...workload, threads, ...row });
    }
  }
  return rows;
}

const [backend, folder, runs] = process.argv.slice(2);
if (process.send && backend && folder) {
  process.send(await measureHere(backend, folder, Number(runs)));
  process.disconnect();
} else {
  const failed = await makeEnvironment().then(
    () => null,
    (error: unknown) => (error instanceof Error ? error.message.slice(0, 200) : String(error)),
  );
  if (failed) console.log(JSON.stringify({ skipped: `PyTorch cannot be had here: ${failed}` }));
  else {
    const [processor] = cpus();
    const machine = { processor: processor?.model, processors: cpus().length, node: process.version };
    console.log(JSON.stringify({ machine, results: await compareAll() }, undefined, 2));
  }
}
