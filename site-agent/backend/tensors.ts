// The only import of TensorFlow.js in the project. Models, losses and optimisers use `tf` from here, so that every
// other module is the same on every backend and the framework could be replaced behind this file. It starts nothing:
// which backend computes is decided by choose-backend.

import util from "node:util";
import tf from "@tensorflow/tfjs";

export { tf };

/** The packages that bring a backend. The framework itself brings `cpu`. */
export type BackendPackage =
  | "@tensorflow/tfjs-node-gpu"
  | "@tensorflow/tfjs-node"
  | "@tensorflow/tfjs-backend-webgpu"
  | "@tensorflow/tfjs-backend-wasm";

/**
 * Load a package, which registers its backend. Absent and half-installed packages reject.
 * Production mode comes first: it silences the framework's advice on the console.
 */
export async function loadBackendPackage(name: BackendPackage): Promise<void> {
  tf.enableProdMode();
  if (name === "@tensorflow/tfjs-backend-wasm") await import("@tensorflow/tfjs-backend-wasm");
  else {
    if (name !== "@tensorflow/tfjs-backend-webgpu") restoreRemovedUtilities();
    await import(name); // Optional packages: they need not be there to be compiled against.
  }
}

/** tfjs-node 4.22.0 calls functions that Node warned of up to version 22 and took out in 23. */
function restoreRemovedUtilities(): void {
  const isNullOrUndefined = (value: unknown): boolean => value === undefined || value === null;
  Object.assign(util, { isNullOrUndefined, isArray: Array.isArray });
}
