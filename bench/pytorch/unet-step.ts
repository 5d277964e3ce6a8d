// The UNet's step: nnU-Net's PlainConvUNet on a batch of slices, deep supervision, every organ drawn.

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { float32Tensor } from "@consilium/shared/encoding/tensor-bundle.ts";
import {
  type PlainConvUNetConfig,
  plainConvUNetParameters,
  supervisedLevelCount,
} from "@consilium/shared/model/plain-conv-unet.ts";
import { initialPlainConvUNetWeights } from "@consilium/shared/model/plain-conv-unet-weights.ts";
import { unetPrompter } from "../../site-agent/recipes/unet-prompter.ts";
import { ADAMW_DEFAULTS } from "../../site-agent/training/adamw.ts";
import { compiledGradients } from "../../site-agent/training/slice-objective.ts";
import { batchTensors, type TrainingSlice } from "../../site-agent/training/training-slice.ts";
import { unetConfig } from "../steps/plans.ts";
import { readFloats, writeFloats } from "./environment.ts";
import type { OpenedStep, PyTorchStep } from "./step.ts";

type Workload = { readonly features: readonly number[]; readonly pixels: number; readonly batch: number };
type Task = {
  readonly config: PlainConvUNetConfig;
  readonly levels: number;
  readonly size: number;
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly gradientNormL2Max: number;
};

export function unetStep(workload: Workload, runs: number): PyTorchStep {
  const write = (folder: string): Promise<void> => writeTask(folder, workload);
  const { features, pixels, batch } = workload;
  const row = { model: `UNet ${features.join(" ")}`, pixels, batch };
  return { row, script: "unet_step.py", runs, write, open };
}

async function writeTask(folder: string, { features, pixels: size, batch }: Workload): Promise<void> {
  const config = unetConfig(features);
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
  await writeFloats(join(folder, "batch.safetensors"), [
    float32Tensor("images", [batch, size, size, 1], images),
    float32Tensor("classes", [batch, size, size], classes),
  ]);
  const tensors = plainConvUNetParameters(config).map(({ name, shape }) =>
    float32Tensor(name, shape, expectDefined(weights.get(name), name)),
  );
  await writeFloats(join(folder, "weights.safetensors"), tensors);
}

async function open(folder: string): Promise<OpenedStep> {
  const task = JSON.parse(await readFile(join(folder, "task.json"), "utf8")) as Task; // Written above.
  const model = unetPrompter.build(task.config, await readFloats(join(folder, "weights.safetensors")));
  const tensors = batchTensors(await slicesOf(folder, task), [0, 1, 2]);
  const compiled = compiledGradients({ model, loss: unetPrompter.loss }, ({ code, reason }) =>
    console.error(`${code}: ${reason}`),
  );
  const specs = new Map(plainConvUNetParameters(task.config).map((spec) => [spec.name, spec]));
  return {
    parameters: model.parameters,
    specs: model.parameters.trainableNames.map((name) => expectDefined(specs.get(name), name)),
    layoutOf: ({ shape }) => (shape.length === 4 ? "kernel" : "plain"),
    plan: { ...ADAMW_DEFAULTS, ...task },
    differentiate: async () => compiled.differentiate(tensors),
  };
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
