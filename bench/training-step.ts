// How fast one training step of the UNet is, by backend, beside the rate of a plain 1024 x 1024 matrix product in the
// same process. Prints one JSON document; times are processor seconds, so that a busy machine disturbs them little.
// node --import tsx bench/training-step.ts

import { Prng } from "@consilium/shared/base/prng.ts";
import { parameterCount } from "@consilium/shared/model/parameter-manifest.ts";
import {
  type ConvBlockSpec,
  decoderStages,
  encoderStages,
  type PlainConvUNetConfig,
  plainConvUNetParameters,
  supervisedLevelCount,
} from "@consilium/shared/model/plain-conv-unet.ts";
import { initialPlainConvUNetWeights } from "@consilium/shared/model/plain-conv-unet-weights.ts";
import { startBackend } from "../site-agent/backend/start-backend.ts";
import { loadBackendPackage, tf } from "../site-agent/backend/tensors.ts";
import { installTrainingKernels } from "../site-agent/backend/wasm-kernels/install.ts";
import { unetPrompter } from "../site-agent/recipes/unet-prompter.ts";
import { ADAMW_DEFAULTS } from "../site-agent/training/adamw.ts";
import { Optimiser, trainStep } from "../site-agent/training/optimiser.ts";
import { compiledGradients } from "../site-agent/training/slice-objective.ts";
import { batchTensors } from "../site-agent/training/training-slice.ts";
import { answerOfChild } from "./steps/answer-of-child.ts";
import { machine } from "./steps/machine.ts";
import { unetConfig } from "./steps/plans.ts";

/** `tfjs-node` runs compiled steps, as training does; `tfjs-node-eager` every operation by itself. */
const VARIANTS = ["wasm", "tfjs-node", "tfjs-node-eager", "wasm-stock", "cpu"] as const;
type Variant = (typeof VARIANTS)[number];
type Workload = {
  readonly features: readonly number[];
  readonly size: number;
  readonly batch: number;
  readonly runs: number;
};

const REAL_SIZES: readonly Workload[] = [
  { features: [16, 32, 64, 128], size: 64, batch: 16, runs: 12 },
  { features: [16, 32, 64], size: 48, batch: 8, runs: 20 },
  { features: [32, 64, 128, 256], size: 64, batch: 8, runs: 8 },
];
const WORKLOADS: Readonly<Record<Variant, readonly Workload[]>> = {
  wasm: REAL_SIZES,
  "tfjs-node": REAL_SIZES,
  "tfjs-node-eager": REAL_SIZES,
  "wasm-stock": [{ features: [16, 32, 64], size: 48, batch: 8, runs: 4 }],
  cpu: [{ features: [4, 8, 8], size: 16, batch: 1, runs: 3 }],
};
const LEARNING_RATE = 1e-3;
const MATRIX_SIZE = 1024;
/** In which a step is recorded, and compared with eager execution. */
const WARM_UPS = 7;

/** Floating-point operations of one image's step: forward, filter gradients, and input gradients but for the first. */
function stepFlops(config: PlainConvUNetConfig, size: number): number {
  const product = ({ inChannels, outChannels, kernelSize }: ConvBlockSpec, pixels: number): number =>
    2 * inChannels * outChannels * kernelSize[0] * kernelSize[1] * pixels;
  const lowest = config.featuresPerStage.length - 1;
  const pixelsOf = (stage: number): number => (size / 2 ** stage) ** 2;
  const encoder = encoderStages(config).flatMap((blocks, stage) =>
    blocks.map((block) => product(block, pixelsOf(stage))),
  );
  const firstHead = config.convsPerStageDecoder.length - supervisedLevelCount(config);
  const decoder = decoderStages(config).flatMap(({ upsampling, blocks, head }, index) => {
    const stage = lowest - index - 1;
    const heads = index >= firstHead ? [product(head, pixelsOf(stage))] : [];
    const above = product(upsampling, pixelsOf(stage + 1));
    return [above, ...blocks.map((block) => product(block, pixelsOf(stage))), ...heads];
  });
  return 3 * [...encoder, ...decoder].reduce((sum, flops) => sum + flops, 0) - (encoder[0] ?? 0);
}

async function start(variant: Variant): Promise<void> {
  if (variant === "tfjs-node" || variant === "tfjs-node-eager") {
    await startBackend("tfjs-node"); // Ends this process where `npm run setup:native` was not run.
    return;
  }
  if (variant !== "cpu") await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
  tf.enableProdMode();
  await tf.setBackend(variant === "cpu" ? "cpu" : "wasm");
  if (variant === "wasm") installTrainingKernels();
}

/** Median processor seconds of `run` after the warm-ups. */
async function cpuSeconds(runs: number, run: () => Promise<void>): Promise<number> {
  const seconds: number[] = [];
  for (let index = 0; index < WARM_UPS + runs; index += 1) {
    const before = process.cpuUsage();
    await run();
    const { user, system } = process.cpuUsage(before);
    if (index >= WARM_UPS) seconds.push((user + system) / 1e6);
  }
  return seconds.sort((a, b) => a - b)[Math.floor(seconds.length / 2)] ?? Number.NaN;
}

function uniform(shape: [number, number], label: string): tf.Tensor2D {
  const prng = Prng.labelled(1, label);
  return tf.tensor2d(
    Float32Array.from({ length: shape[0] * shape[1] }, () => prng.uniform(-1, 1)),
    shape,
  );
}

async function matrixRate(): Promise<number> {
  const [a, b] = [uniform([MATRIX_SIZE, MATRIX_SIZE], "a"), uniform([MATRIX_SIZE, MATRIX_SIZE], "b")];
  const seconds = await cpuSeconds(tf.getBackend() === "cpu" ? 1 : 10, async () => {
    const product = tf.matMul(a, b);
    await product.data();
    product.dispose();
  });
  return (2 * MATRIX_SIZE ** 3) / seconds / 1e9;
}

async function stepSeconds(variant: Variant, { features, size, batch, runs }: Workload): Promise<number> {
  const config = unetConfig(features);
  const model = unetPrompter.build(config, initialPlainConvUNetWeights(config, 1));
  const prng = Prng.labelled(1, "slices");
  const slices = Array.from({ length: batch }, () => ({
    image: Float32Array.from({ length: size * size }, () => prng.normal()),
    labels: Uint8Array.from({ length: size * size }, () => (prng.chance(0.2) ? prng.int(1, 2) : 0)),
    ...{ height: size, width: size, channels: 1, contoured: [1, 2] },
  }));
  const tensors = batchTensors(slices, [0, 1, 2]);
  const plan = { ...ADAMW_DEFAULTS, weightDecay: 0.01, gradientNormL2Max: 12 };
  const optimiser = new Optimiser(model.parameters, plan);
  const learner = { model, loss: unetPrompter.loss };
  const compiled = variant === "tfjs-node-eager" ? null : compiledGradients(learner);
  const seconds = await cpuSeconds(runs, async () => {
    if (compiled) await optimiser.step(compiled.differentiate(tensors), LEARNING_RATE);
    else await trainStep(learner, tensors, optimiser, LEARNING_RATE);
  });
  compiled?.dispose();
  optimiser.dispose();
  model.dispose();
  return seconds;
}

async function measure(variant: Variant): Promise<object> {
  await start(variant);
  const matMulGflopPerCpuSecond = round(await matrixRate());
  const steps: object[] = [];
  for (const workload of WORKLOADS[variant]) {
    const { features, size, batch } = workload;
    const parameters = parameterCount(plainConvUNetParameters(unetConfig(features)));
    try {
      const seconds = await stepSeconds(variant, workload);
      const rate = (batch * stepFlops(unetConfig(features), size)) / seconds / 1e9;
      const figures = {
        cpuSecondsPerStep: round(seconds),
        gflopPerCpuSecond: round(rate),
        shareOfMatMul: round(rate / matMulGflopPerCpuSecond),
      };
      steps.push({ features, size, batch, parameters, ...figures });
    } catch (error) {
      steps.push({
        features,
        size,
        batch,
        parameters,
        failed: error instanceof Error ? error.message : "failed",
      });
    }
  }
  return { variant, matMulGflopPerCpuSecond, steps };
}

function round(value: number): number {
  return Number(value.toPrecision(3));
}

/** Every variant in a process of its own: a backend's kernels are registered once a process. */
async function measureInChild(variant: Variant): Promise<unknown> {
  return (await answerOfChild(import.meta.url, [variant])) ?? { variant, failed: "the process ended" };
}

const requested = VARIANTS.find((variant) => variant === process.argv[2]);
if (process.send && requested) {
  process.send(await measure(requested));
  process.disconnect();
} else {
  const results: unknown[] = [];
  for (const variant of VARIANTS) results.push(await measureInChild(variant));
  console.log(JSON.stringify({ machine: machine(), results }, undefined, 2));
}
