// Computations on the running backend beside the same on the framework's plain cpu backend, on numbers from a label.

import { Prng } from "@consilium/shared/base/prng.ts";
import type { Test } from "tap";
import { tf } from "../../site-agent/backend/tensors.ts";

export function numbers(label: string, count: number, scale = 1): Float32Array {
  const prng = Prng.labelled(1, label);
  return Float32Array.from({ length: count }, () => prng.uniform(-scale, scale));
}

export function tensor(label: string, shape: readonly number[], scale = 1): tf.Tensor {
  return tf.tensor(numbers(label, tf.util.sizeFromShape([...shape]), scale), [...shape]);
}

export const numbersOf = (compute: () => tf.Tensor[]): Float32Array[] =>
  tf.tidy(() => compute().map((result) => result.dataSync() as Float32Array)); // All float32.

async function onCpu<T>(act: () => T): Promise<T> {
  const running = tf.getBackend();
  await tf.setBackend("cpu");
  try {
    return act();
  } finally {
    await tf.setBackend(running);
  }
}

/** Below this size a part is zero in exact arithmetic, and only its own rounding is compared. */
const SCALE_MIN = 1e-4;

/** Fused kernels against the same layer composed of the framework's operations on cpu. */
export async function expectSame(
  t: Test,
  what: string,
  compute: () => tf.Tensor[],
  tolerance = 2e-5,
): Promise<void> {
  const [expected, found] = [await onCpu(() => numbersOf(compute)), numbersOf(compute)];
  expected.forEach((values, part) => {
    const largest = values.reduce((max, value) => Math.max(max, Math.abs(value)), SCALE_MIN);
    const error = values.reduce((max, value, index) => {
      const difference = Math.abs(value - (found[part]?.[index] ?? Number.NaN));
      return Math.max(max, difference); // NaN stays.
    }, 0);
    t.ok(
      error <= tolerance * largest && found[part]?.length === values.length,
      `${what}, part ${part}: ${error}`,
    );
  });
}
