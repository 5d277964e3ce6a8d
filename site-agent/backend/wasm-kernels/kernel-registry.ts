// How our kernels enter the framework: under the names that its operations call, in place of the stock ones.

import { tf } from "../tensors.ts";
import type { TrainingModule } from "./training-module.ts";
import type { WasmHeap } from "./wasm-heap.ts";

export type KernelContext = { readonly heap: WasmHeap; readonly module: TrainingModule };

export type KernelInputs = tf.NamedTensorInfoMap;
export type KernelAttributes = tf.NamedAttrMap;
export type KernelResult = tf.TensorInfo | tf.TensorInfo[];

/** One kernel by the framework's name. The stock kernel is undefined where the stock backend has none. */
export type TrainingKernel = {
  readonly name: string;
  readonly compute: (
    context: KernelContext,
    inputs: KernelInputs,
    attributes: KernelAttributes,
    stock: (() => KernelResult) | undefined,
  ) => KernelResult;
};

const BACKEND_NAME = "wasm";

/** Put a kernel in the place of the stock one, which it may still call. */
export function replaceKernel(context: KernelContext, { name, compute }: TrainingKernel): void {
  const stock = tf.getKernel(name, BACKEND_NAME);
  if (stock) tf.unregisterKernel(name, BACKEND_NAME);
  tf.registerKernel({
    kernelName: name,
    backendName: BACKEND_NAME,
    kernelFunc: (call) => {
      const { inputs = {}, attrs = {} } = call;
      const callStock = stock && (() => stock.kernelFunc(call));
      return context.heap.settle(() => compute(context, inputs, attrs, callStock));
    },
  });
}

/** Take away a kernel that computes something wrong: an error is better than a wrong gradient. */
export function removeKernel(name: string): void {
  if (tf.getKernel(name, BACKEND_NAME)) tf.unregisterKernel(name, BACKEND_NAME);
}

/** An attribute under the framework's name, in the type that its operation passes. */
export function attribute<T>(attributes: KernelAttributes, name: string): T {
  return attributes[name] as unknown as T; // The framework's own operation made the attributes.
}

/** An input that the framework's operation always passes. */
export function input(inputs: KernelInputs, name: string): tf.TensorInfo {
  const tensor = inputs[name];
  tf.util.assert(tensor !== undefined, () => `kernel input ${name} is missing`);
  return tensor as tf.TensorInfo; // Asserted above.
}

/** The same for kernels that are composed of the framework's operations. */
export function inputTensor(inputs: KernelInputs, name: string): tf.Tensor {
  const tensor = input(inputs, name);
  tf.util.assert(tensor instanceof tf.Tensor, () => `kernel input ${name} has no shape of its own`);
  return tensor as tf.Tensor; // Asserted above.
}

/** True when a tensor has no elements: our kernels count from 1. */
export function isEmpty(...tensors: readonly tf.TensorInfo[]): boolean {
  return tensors.some(({ shape }) => shape.includes(0));
}

/** A tensor of zeros. */
export function zeros({ heap, module }: KernelContext, shape: readonly number[]): tf.TensorInfo {
  const output = heap.output(shape);
  if (!isEmpty(output)) module.clear(heap.pointer(output), 4 * tf.util.sizeFromShape(output.shape));
  return output;
}
