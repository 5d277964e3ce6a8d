// Which of the framework's kernels a computation calls, and which of them a backend lacks: known before training, not
// in the middle of its first step.

import { BackendError } from "./backend-error.ts";
import { tf } from "./tensors.ts";

/** The framework's names for what customGrad computes, also within a gradient: they are no kernels. */
const SCOPE_NAMES: readonly string[] = ["unnamed scope", "forward", "backward"];

/** Names of the kernels that `run` calls on the running backend, sorted. */
export async function kernelCensus(run: () => void | Promise<void>): Promise<string[]> {
  const { kernelNames } = await tf.profile(async () => {
    await run();
    return []; // A profile may report a result; there is none to report.
  });
  return [...new Set(kernelNames)].filter((name) => !SCOPE_NAMES.includes(name)).sort();
}

/** The names that the running backend has no kernel for. */
export function missingKernels(names: readonly string[]): string[] {
  return names.filter((name) => tf.getKernel(name, tf.getBackend()) === undefined);
}

/** @throws BackendError `backend.kernels-missing` that names them all. */
export function expectKernels(names: readonly string[]): void {
  const missing = missingKernels(names);
  if (missing.length === 0) return;
  const message = `The ${tf.getBackend()} backend lacks kernels that this study's model needs: ${missing.join(", ")}.`;
  throw new BackendError("backend.kernels-missing", `${message} Choose another backend.`);
}
