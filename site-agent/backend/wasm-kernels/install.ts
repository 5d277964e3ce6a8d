// Puts the training kernels in the place of the stock ones, once a process, after the wasm backend has started. What
// the stock backend computes wrongly and no model here needs is taken away, so that it fails instead.

import { type WasmModule, whileRewriting } from "@consilium/shared/base/web-assembly.ts";
import { BackendError } from "../backend-error.ts";
import { tf } from "../tensors.ts";
import { batchMatMul } from "./batch-mat-mul.ts";
import { channelBiasKernels } from "./channel-bias.ts";
import { channelKernels } from "./channels.ts";
import { convolution } from "./convolution.ts";
import { convolutionFilterGradient } from "./convolution-filter-gradient.ts";
import { convolutionInputGradient } from "./convolution-input-gradient.ts";
import { depthwiseKernels } from "./depthwise-convolution.ts";
import { diceCrossEntropy } from "./dice-cross-entropy.ts";
import { elementwiseKernels } from "./elementwise.ts";
import { identity } from "./identity.ts";
import { instanceNormKernels } from "./instance-norm.ts";
import { type KernelContext, removeKernel, replaceKernel, type TrainingKernel } from "./kernel-registry.ts";
import { KernelThreads } from "./kernel-threads.ts";
import { layerNormKernels } from "./layer-norm.ts";
import { maxPoolGradient } from "./max-pool-gradient.ts";
import { optimiserKernels } from "./optimiser-step.ts";
import { convolveTiles, TILE_BYTES } from "./products.ts";
import { scaledSoftmaxKernels } from "./scaled-softmax.ts";
import { withSharedMemory } from "./shared-memory.ts";
import { THREADED_KERNELS, threadedModule } from "./threaded-module.ts";
import { instantiateTrainingModule, type TrainingModule } from "./training-module.ts";
import { unsortedSegmentSum } from "./unsorted-segment-sum.ts";
import { WasmHeap } from "./wasm-heap.ts";

const TRAINING_KERNELS: readonly TrainingKernel[] = [
  batchMatMul,
  convolution,
  convolutionFilterGradient,
  convolutionInputGradient,
  ...channelBiasKernels,
  ...channelKernels,
  ...depthwiseKernels,
  diceCrossEntropy,
  ...elementwiseKernels,
  identity,
  ...instanceNormKernels,
  ...layerNormKernels,
  maxPoolGradient,
  ...optimiserKernels,
  ...scaledSoftmaxKernels,
  unsortedSegmentSum,
];

/** Wrong in tfjs-backend-wasm 4.22.0: pooling where nothing is positive, and the depth in the input gradient of conv3d. */
const WRONG_KERNELS = ["MaxPool3D", "MaxPool3DGrad", "Conv3DBackpropInputV2"];

export type InstalledKernels = {
  readonly heap: WasmHeap;
  readonly names: readonly string[];
  /** True when products are added without rounding in between; then results differ in the last bits. */
  readonly fusesMultiplyAdd: boolean;
  /** For threads, which need the same module on the same memory. */
  readonly compiled: readonly WasmModule[];
  /** In whose place another module can be put. */
  readonly context: { readonly heap: WasmHeap; module: TrainingModule };
  /** That share the kernels, the calling one with them. */
  threadCount: number;
};

let installed: InstalledKernels | undefined;

/**
 * Install the kernels into the running wasm backend; a second call returns the first one's result.
 * @throws BackendError `backend.kernels-missing` when the wasm backend is not running or is another version.
 */
export function installTrainingKernels(): InstalledKernels {
  if (installed) return installed;
  const heap = new WasmHeap();
  const { module, compiled, relaxed } = instantiateTrainingModule(heap.memory);
  const context = { heap, module };
  for (const kernel of TRAINING_KERNELS) replaceKernel(context, kernel);
  for (const name of WRONG_KERNELS) removeKernel(name);
  const names = TRAINING_KERNELS.map(({ name }) => name);
  const absent = names.filter((name) => !tf.getKernel(name, "wasm"));
  if (absent.length > 0) {
    throw new BackendError(
      "backend.kernels-missing",
      `Training kernels did not register: ${absent.join(", ")}.`,
    );
  }
  const fuses = relaxed && fusesMultiplyAdd(context);
  installed = { heap, names, fusesMultiplyAdd: fuses, compiled, context, threadCount: 1 };
  return installed;
}

/**
 * Share calls of the installed kernels among threads from now on. The backend was started with a memory that threads can
 * share (`startedWithSharedMemory`).
 * @param count with the calling thread
 * @param partNanosecondsMin what takes less is left to one thread
 */
export async function startKernelThreads(count: number, partNanosecondsMin?: number): Promise<KernelThreads> {
  const kernels = installTrainingKernels();
  const { context, compiled } = kernels;
  const { heap, module } = context;
  const threads = await KernelThreads.start(count, {
    ...{ memory: heap.memory, compiled },
    kernels: THREADED_KERNELS,
  });
  const scratch = heap.reserve((count - 1) * SCRATCH_DISTANCE_BYTES);
  const each = Array.from({ length: count - 1 }, (_, index) => scratch + index * SCRATCH_DISTANCE_BYTES);
  context.module = threadedModule(module, threads, each, partNanosecondsMin);
  kernels.threadCount = count;
  return threads;
}

/** Room for a tile, and so much that no two threads write into one line of a cache. */
const SCRATCH_DISTANCE_BYTES = 2 * TILE_BYTES;

/** Start the wasm backend so that its memory can be shared; without threads nothing else changes. */
export function startedWithSharedMemory(start: () => Promise<void>): Promise<void> {
  return whileRewriting(withSharedMemory, start);
}

/** The processor decides what the relaxed instruction does: (1 + e)^2 - (1 + 2e) is e^2 only without rounding. */
function fusesMultiplyAdd({ heap, module }: KernelContext): boolean {
  const e = 2 ** -12;
  return heap.lend({ input: 4, panels: 32, bias: 32, output: 32, tile: TILE_BYTES }, (at) => {
    const set = (pointer: number, value: number) =>
      new Float32Array(heap.memory.buffer, pointer, 8).fill(value);
    set(at.panels, 1 + e);
    set(at.bias, -(1 + 2 * e));
    new Float32Array(heap.memory.buffer, at.input, 1).fill(1 + e);
    const distance = { imageBytes: 0, rowBytes: 0, pixelBytes: 32 };
    const one = { images: 1, rows: 1, pixels: 1, segments: 1, segmentBytes: 4, segmentLength: 1, columns: 8 };
    convolveTiles(module, { ...at, ...one, from: distance, to: distance });
    return new Float32Array(heap.memory.buffer, at.output, 1)[0] === e * e;
  });
}
