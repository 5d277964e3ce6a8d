// Kernels of our own within TensorFlow, on the processor: an addon beside the package's registers them as TensorFlow's
// operations (site-agent/native/kernels), so that they run in recorded graphs like all others. `npm run setup:native`
// builds it; a package that npm itself delivered has none, and layers then compose the same arithmetic.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import {
  GELU,
  GELU_GRADIENT,
  INSTANCE_NORM,
  INSTANCE_NORM_GRADIENT,
  LAYER_NORM,
  LAYER_NORM_GRADIENT,
  LAYER_NORM_SCALE_GRADIENT,
  RELU_GRADIENT,
  SCALED_SOFTMAX,
  SCALED_SOFTMAX_GRADIENT,
} from "./fused-kernel.ts";
import { DATA_TYPES } from "./graph/graph-writer.ts";
import { KERNELS_ADDON } from "./kernels-addon.ts";
import { tf } from "./tensors.ts";
import { input } from "./wasm-kernels/kernel-registry.ts";

type KernelsAddon = {
  /** Registers the operations. @param threads that one operation may use @throws what TensorFlow says against one */
  start(threads: number): void;
  /** Of vector instructions, that this processor has, the best one first. */
  readonly levels: readonly string[];
  /** @returns false where the processor does not have it */
  useLevel(level: string): boolean;
};

type TensorFlowKernel = {
  readonly name: string;
  /** Of TensorFlow, where it is its own: these have the type of their numbers as an attribute. */
  readonly builtIn?: string;
  /** In the operation's order, by the names under which layers give them. */
  readonly inputs: readonly string[];
  readonly outputCount: number;
  /** Floats. */
  readonly attributes: readonly string[];
};

const KERNELS: readonly TensorFlowKernel[] = [
  { name: GELU, inputs: ["x"], outputCount: 1, attributes: [] },
  { name: GELU_GRADIENT, inputs: ["x", "dy"], outputCount: 1, attributes: [] },
  { name: LAYER_NORM, inputs: ["x", "gamma", "beta"], outputCount: 3, attributes: ["epsilon"] },
  {
    ...{ name: LAYER_NORM_GRADIENT, outputCount: 1, attributes: [] },
    inputs: ["x", "gamma", "mean", "inverse", "dy"],
  },
  {
    ...{ name: LAYER_NORM_SCALE_GRADIENT, outputCount: 1, attributes: [] },
    inputs: ["x", "mean", "inverse", "dy"],
  },
  {
    ...{ name: INSTANCE_NORM, outputCount: 3, attributes: ["epsilon", "negativeSlope"] },
    inputs: ["x", "gamma", "beta"],
  },
  {
    ...{ name: INSTANCE_NORM_GRADIENT, outputCount: 3, attributes: ["negativeSlope"] },
    inputs: ["x", "gamma", "beta", "mean", "inverse", "dy"],
  },
  { name: SCALED_SOFTMAX, inputs: ["x"], outputCount: 1, attributes: ["factor"] },
  { name: SCALED_SOFTMAX_GRADIENT, inputs: ["y", "dy"], outputCount: 1, attributes: ["factor"] },
];

/** Of TensorFlow's own operations one that the package has no kernel for. */
const RELU: TensorFlowKernel = {
  ...{ name: RELU_GRADIENT, builtIn: "ReluGrad", outputCount: 1, attributes: [] },
  inputs: ["dy", "y"],
};

/** What tfjs-node's backend does with an operation of TensorFlow. */
type OperationRunner = {
  readonly binding: { readonly TF_ATTR_FLOAT: number; readonly TF_ATTR_TYPE: number };
  executeMultipleOutputs(
    operation: string,
    attributes: readonly { readonly name: string; readonly type: number; readonly value: unknown }[],
    inputs: readonly tf.TensorInfo[],
    outputCount: number,
  ): tf.TensorInfo[];
};

/** Kernels that need no addon; a second call finds them. */
export function installTensorFlowOperations(): void {
  if (!tf.getKernel(RELU.name, "tensorflow")) register(RELU);
}

let installed: KernelsAddon | undefined;

/**
 * Load the addon of the package whose backend is running, where it has one; a second call loads nothing.
 * @param threads that one operation may use
 * @returns null where there is none
 * @throws what the loader or TensorFlow says of an addon that does not fit
 */
export function installTensorFlowKernels(packageName: string, threads: number): KernelsAddon | null {
  if (installed) return installed;
  const require = createRequire(import.meta.url);
  const path = join(dirname(require.resolve(`${packageName}/package.json`)), KERNELS_ADDON);
  if (!existsSync(path)) return null;
  const addon = require(path) as KernelsAddon; // Our own.
  addon.start(threads);
  for (const kernel of KERNELS) register(kernel);
  installed = addon;
  return addon;
}

function register({ name, builtIn, inputs: order, outputCount, attributes }: TensorFlowKernel): void {
  tf.registerKernel({
    kernelName: name,
    backendName: "tensorflow",
    kernelFunc: ({ inputs, attrs, backend }) => {
      const runner = backend as OperationRunner; // The one for which it is registered.
      const given = order.map((key) => input(inputs, key));
      const { TF_ATTR_FLOAT, TF_ATTR_TYPE } = runner.binding;
      const values = [
        ...(builtIn ? [{ name: "T", type: TF_ATTR_TYPE, value: DATA_TYPES.float32 }] : []),
        ...attributes.map((key) => ({ name: key, type: TF_ATTR_FLOAT, value: attrs?.[key] })),
      ];
      const outputs = runner.executeMultipleOutputs(builtIn ?? name, values, given, outputCount);
      const [only] = outputs;
      return only && outputCount === 1 ? only : outputs;
    },
  });
}
