// Puts the training kernels in the place of the stock ones, once a process, after the wasm backend has started. What
// the stock backend computes wrongly and no model here needs is taken away, so that it fails instead.

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
import { instanceNormKernels } from "./instance-norm.ts";
import { removeKernel, replaceKernel, type TrainingKernel } from "./kernel-registry.ts";
import { maxPoolGradient } from "./max-pool-gradient.ts";
import { optimiserKernels } from "./optimiser-step.ts";
import { instantiateTrainingModule } from "./training-module.ts";
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
  ...instanceNormKernels,
  maxPoolGradient,
  ...optimiserKernels,
  unsortedSegmentSum,
];

/** Wrong in tfjs-backend-wasm 4.22.0: windows without positive numbers, the last plane of a depth, any transposition. */
const WRONG_KERNELS = ["MaxPool3D", "MaxPool3DGrad", "Conv3DBackpropInputV2"];

export type InstalledKernels = { readonly heap: WasmHeap; readonly names: readonly string[] };

let installed: InstalledKernels | undefined;

/**
 * Install the kernels into the running wasm backend; a second call returns the first one's result.
 * @throws BackendError `backend.kernels-missing` when the wasm backend is not running or is another version.
 */
export function installTrainingKernels(): InstalledKernels {
  if (installed) return installed;
  const heap = new WasmHeap();
  const context = { heap, module: instantiateTrainingModule(heap.memory) };
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
  installed = { heap, names };
  return installed;
}
