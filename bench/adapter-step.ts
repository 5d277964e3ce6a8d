// A training step of rfmedsam2's adapters on SAM 2.1 tiny with wasm, beside the rate at which this machine multiplies two
// matrices of 1024: floating-point operations of products and convolutions, without those that recomputation repeats, for
// each processor second of the step. Prints JSON.
// npm run bench -- adapter-step [PIXELS...]

import { cpus } from "node:os";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { loadBackendPackage, tf } from "../site-agent/backend/tensors.ts";
import { installTrainingKernels } from "../site-agent/backend/wasm-kernels/install.ts";
import { estimateInChild } from "../site-agent/estimate/estimate-in-child.ts";
import { answerOfChild } from "./steps/answer-of-child.ts";
import { refinedPlan, SLICES_OF_TWO } from "./steps/plans.ts";
import { type Measured, measuredSteps } from "./steps/real-steps.ts";

const PIXELS = [256, 512];
const BATCHES = [1, 2];
const MATRIX_SIZE = 1024;
const PRODUCTS = 20;

type Kernels = "stock" | "ours";

/** Floating-point operations a processor second, the median product. */
async function matrixRate(kernels: Kernels): Promise<number> {
  await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
  await tf.setBackend("wasm");
  if (kernels === "ours") installTrainingKernels();
  const [a, b] = [1, 2].map((seed) =>
    tf.randomUniform<tf.Rank.R2>([MATRIX_SIZE, MATRIX_SIZE], -1, 1, "float32", seed),
  ) as [tf.Tensor2D, tf.Tensor2D]; // Two.
  const seconds = Array.from({ length: PRODUCTS }, () => {
    const before = process.cpuUsage();
    tf.matMul(a, b).dispose();
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1e6;
  }).sort((first, second) => first - second);
  return (2 * MATRIX_SIZE ** 3) / (seconds[PRODUCTS / 2] ?? Number.NaN);
}

async function rateInChild(kernels: Kernels): Promise<number> {
  const rate = Number(await answerOfChild(import.meta.url, [kernels]));
  if (!(rate > 0)) throw new Error(`${kernels} ended`);
  return rate;
}

function planOf(imageSize: number, batchSize: number, recompute: boolean): StudyPlan {
  const made = refinedPlan({
    ...{ variant: "tiny", imageSize, trains: "adapters", clip: SLICES_OF_TWO, recompute, steps: 2 },
  });
  return { ...made, training: { ...made.training, batchSize } };
}

async function measure(imageSize: number, batchSize: number, rate: number): Promise<object> {
  const kept = planOf(imageSize, batchSize, false);
  const { work } = await estimateInChild({ backend: "wasm" }, kept);
  const flops = work.products.flops + work.convolutions.flops + work.depthwise.flops;
  const beside = ({ seconds, memoryBytes }: Measured): object => ({
    ...{ cpuSeconds: rounded(seconds), shareOfMatrixRate: rounded(flops / seconds / rate) },
    mebibytes: Math.ceil(memoryBytes / 2 ** 20),
  });
  return {
    ...{ pixels: imageSize, batch: batchSize, gflop: rounded(flops / 1e9) },
    kept: beside(await measuredSteps("wasm", kept)),
    recomputed: beside(await measuredSteps("wasm", planOf(imageSize, batchSize, true))),
  };
}

function rounded(value: number): number {
  return Number(value.toPrecision(3));
}

const [asked] = process.argv.slice(2);
if (process.send && (asked === "stock" || asked === "ours")) {
  process.send(await matrixRate(asked));
  process.disconnect();
} else {
  const wanted = process.argv.slice(2).map(Number);
  const rates = { stock: await rateInChild("stock"), ours: await rateInChild("ours") };
  const rate = Math.max(rates.stock, rates.ours);
  const rows: object[] = [];
  for (const pixels of wanted.length > 0 ? wanted : PIXELS) {
    for (const batch of BATCHES) {
      rows.push(await measure(pixels, batch, rate));
      console.error(JSON.stringify(rows.at(-1)));
    }
  }
  const machine = { processor: cpus()[0]?.model, processors: cpus().length, node: process.version };
  const gflopPerSecond = { stock: rounded(rates.stock / 1e9), ours: rounded(rates.ours / 1e9) };
  console.log(JSON.stringify({ machine, matrixGflopPerSecond: gflopPerSecond, rows }, undefined, 2));
}
