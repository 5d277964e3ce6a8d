// The AdamW update of one tensor and the sum of squares of a gradient, each one pass over the numbers.

import { ADAMW_STEP, type AdamWConstants, type AdamWInputs, SUM_SQUARES } from "../fused-kernel.ts";
import { tf } from "../tensors.ts";
import { input, isEmpty, type KernelContext, type TrainingKernel } from "./kernel-registry.ts";
import { FLOAT_BYTES } from "./products.ts";

const VECTOR_NUMBERS = 4;

/** Addresses of value, gradient, first and second, then of the new value, first and second. */
type Places = readonly [number, number, number, number, number, number, number];

type AdamWNumbers = AdamWConstants & {
  readonly [Name in "keep" | "rate" | "root" | "gradientScale"]: number;
};

/** `AdamWInputs` -> value, first, second after the step. */
const adamwStep: TrainingKernel = {
  name: ADAMW_STEP,
  compute(context, inputs, attributes) {
    const { heap } = context;
    const constants = attributes as unknown as AdamWConstants; // What every caller of this kernel passes.
    const number = (name: keyof AdamWInputs): number => heap.float32(input(inputs, name))[0] ?? Number.NaN;
    const value = input(inputs, "value");
    const outputs = [heap.output(value.shape), heap.output(value.shape), heap.output(value.shape)] as const;
    if (isEmpty(value)) return [...outputs];
    const given = [
      value,
      input(inputs, "gradient"),
      input(inputs, "first"),
      input(inputs, "second"),
    ] as const;
    const places = [...given, ...outputs].map((tensor) => heap.pointer(tensor)) as unknown as Places; // Seven tensors.
    stepAll(context, places, tf.util.sizeFromShape(value.shape), {
      ...constants,
      ...{ keep: number("keep"), rate: number("rate") },
      ...{ root: number("root"), gradientScale: number("gradientScale") },
    });
    return [...outputs];
  },
};

/** Whole vectors in place; a rest of one to three numbers in a vector of its own. */
function stepAll(context: KernelContext, places: Places, count: number, numbers: AdamWNumbers): void {
  const { heap, module } = context;
  const rest = count % VECTOR_NUMBERS;
  const whole = count - rest;
  if (whole > 0) step(context, places, whole, numbers);
  if (rest === 0) return;
  const vectorBytes = FLOAT_BYTES * VECTOR_NUMBERS;
  heap.lend({ vectors: places.length * vectorBytes }, ({ vectors }) => {
    const moved = places.map((_, index) => vectors + index * vectorBytes) as unknown as Places; // As many as before.
    const tails = places.map((place) => place + whole * FLOAT_BYTES);
    module.clear(vectors, places.length * vectorBytes);
    const copy = (from: number, to: number) => module.copy_rows(from, to, 1, rest * FLOAT_BYTES, 0, 0);
    for (let index = 0; index < INPUT_COUNT; index += 1) copy(tails[index] ?? 0, moved[index] ?? 0);
    step(context, moved, VECTOR_NUMBERS, numbers);
    for (let index = INPUT_COUNT; index < places.length; index += 1)
      copy(moved[index] ?? 0, tails[index] ?? 0);
  });
}

const INPUT_COUNT = 4;

function step({ module }: KernelContext, places: Places, count: number, numbers: AdamWNumbers): void {
  const { gradientScale: scale, beta1, beta2, keep, rate, root, epsilon } = numbers;
  module.adamw(...places, count, scale, beta1, 1 - beta1, beta2, 1 - beta2, keep, rate, root, epsilon);
}

/** x of any shape -> the sum of its squares []. */
const sumSquares: TrainingKernel = {
  name: SUM_SQUARES,
  compute({ heap, module }, inputs) {
    const x = input(inputs, "x");
    const sum = heap.output([]);
    const value = isEmpty(x) ? 0 : module.sum_squares(heap.pointer(x), tf.util.sizeFromShape(x.shape));
    heap.float32(sum)[0] = value;
    return sum;
  },
};

export const optimiserKernels: readonly TrainingKernel[] = [adamwStep, sumSquares];
