// GELU with its gradient in one pass each, the exchange of neighbouring numbers behind rotary positions, and copies of
// whole blocks. What the stock kernels do number by number is done in vectors here.

import { GELU, GELU_GRADIENT } from "../fused-kernel.ts";
import { tf } from "../tensors.ts";
import {
  attribute,
  input,
  isEmpty,
  type KernelContext,
  type KernelResult,
  type TrainingKernel,
} from "./kernel-registry.ts";
import { FLOAT_BYTES } from "./products.ts";

const VECTOR_NUMBERS = 4;
const VECTOR_BYTES = FLOAT_BYTES * VECTOR_NUMBERS;

/** Runs over whole vectors in place, and over a rest of one to three numbers in vectors of its own. */
function overVectors(
  { heap, module }: KernelContext,
  from: readonly tf.TensorInfo[],
  to: tf.TensorInfo,
  run: (from: readonly number[], to: number, count: number) => void,
): tf.TensorInfo {
  if (isEmpty(to)) return to;
  const count = tf.util.sizeFromShape(to.shape);
  const rest = count % VECTOR_NUMBERS;
  const whole = count - rest;
  const places = from.map((tensor) => heap.pointer(tensor));
  const target = heap.pointer(to);
  if (whole > 0) run(places, target, whole);
  if (rest === 0) return to;
  heap.lend({ vectors: (from.length + 1) * VECTOR_BYTES }, ({ vectors }) => {
    module.clear(vectors, (from.length + 1) * VECTOR_BYTES);
    const at = (index: number): number => vectors + index * VECTOR_BYTES;
    const copy = (source: number, end: number) => module.copy_rows(source, end, 1, rest * FLOAT_BYTES, 0, 0);
    places.forEach((place, index) => {
      copy(place + whole * FLOAT_BYTES, at(index));
    });
    run(
      places.map((_, index) => at(index)),
      at(from.length),
      VECTOR_NUMBERS,
    );
    copy(at(from.length), target + whole * FLOAT_BYTES);
  });
  return to;
}

/** x of any shape -> x Phi(x). */
const gelu: TrainingKernel = {
  name: GELU,
  compute(context, inputs) {
    const x = input(inputs, "x");
    const run = ([from = 0]: readonly number[], to: number, count: number) =>
      context.module.gelu(from, to, count);
    return overVectors(context, [x], context.heap.output(x.shape), run);
  },
};

/** x and dy of one shape -> dx. */
const geluGradient: TrainingKernel = {
  name: GELU_GRADIENT,
  compute(context, inputs) {
    const [x, dy] = [input(inputs, "x"), input(inputs, "dy")];
    const run = ([from = 0, gradient = 0]: readonly number[], to: number, count: number) =>
      context.module.gelu_gradient(from, gradient, to, count);
    return overVectors(context, [x, dy], context.heap.output(x.shape), run);
  },
};

/** Pairs along the last axis; everything else is the stock kernel's. */
const reverse: TrainingKernel = {
  name: "Reverse",
  compute(context, inputs, attributes, stock) {
    const x = input(inputs, "x");
    const rank = x.shape.length;
    const axes = tf.util.parseAxisParam(attribute<number | number[]>(attributes, "dims"), x.shape);
    const isPairs = axes.length === 1 && axes[0] === rank - 1 && x.shape.at(-1) === 2;
    if (!isPairs || x.dtype !== "float32") return stockResult(stock, x);
    const run = ([from = 0]: readonly number[], to: number, count: number) =>
      context.module.swap_pairs(from, to, count);
    return overVectors(context, [x], context.heap.output(x.shape), run);
  },
};

/** Repeated along one axis, which is a copy of blocks; everything else is the stock kernel's. */
const tile: TrainingKernel = {
  name: "Tile",
  compute(context, inputs, attributes, stock) {
    const x = input(inputs, "x");
    const repeats = attribute<number[]>(attributes, "reps");
    const axes = repeats.flatMap((count, axis) => (count === 1 ? [] : [axis]));
    const [axis] = axes;
    if (axes.length !== 1 || axis === undefined || repeats.length !== x.shape.length || x.dtype !== "float32")
      return stockResult(stock, x);
    return tiledAlong(context, x, axis, repeats[axis] ?? 1);
  },
};

function tiledAlong({ heap }: KernelContext, x: tf.TensorInfo, axis: number, times: number): tf.TensorInfo {
  const shape = x.shape.map((size, index) => (index === axis ? size * times : size));
  const output = heap.output(shape);
  if (isEmpty(output)) return output;
  const block = tf.util.sizeFromShape(x.shape.slice(axis));
  const blocks = tf.util.sizeFromShape(x.shape) / block;
  const [from, to] = [heap.float32(x), heap.float32(output)];
  for (let index = 0; index < blocks; index += 1) {
    const copied = from.subarray(index * block, (index + 1) * block);
    for (let time = 0; time < times; time += 1) to.set(copied, (index * times + time) * block);
  }
  return output;
}

function stockResult(stock: (() => KernelResult) | undefined, x: tf.TensorInfo): KernelResult {
  tf.util.assert(stock !== undefined, () => `the stock backend has no kernel for [${x.shape}]`);
  return stock?.() ?? x;
}

export const elementwiseKernels: readonly TrainingKernel[] = [gelu, geluGradient, reverse, tile];
