// Gradients of one backend beside those of another.

import type { Test } from "tap";
import { computeCase, type GradientCase } from "../../site-agent/backend/gradient-cases.ts";
import { tf } from "../../site-agent/backend/tensors.ts";

/** Of the largest number of a tensor. The cpu backend is the reference: it agrees with TensorFlow on these cases. */
const VALUE_TOLERANCE = 2e-4;
export const GRADIENT_TOLERANCE = 1e-3;

export async function computedOn(backend: string, cases: readonly GradientCase[]): Promise<Float32Array[][]> {
  await tf.setBackend(backend);
  const results: Float32Array[][] = [];
  for (const one of cases) results.push(await computeCase(one));
  return results;
}

export function relativeError(found: Float32Array, expected: Float32Array): number {
  if (found.length !== expected.length) return Number.POSITIVE_INFINITY;
  const largest = expected.reduce((max, value) => Math.max(max, Math.abs(value)), 1e-12);
  const errors = found.map((value, index) => Math.abs(value - (expected[index] ?? 0)));
  return errors.reduce((max, error) => (error > max || Number.isNaN(error) ? error : max), 0) / largest;
}

export function compareGradients(
  t: Test,
  cases: readonly GradientCase[],
  found: readonly Float32Array[][],
  expected: readonly Float32Array[][],
): void {
  cases.forEach(({ name }, index) => {
    const errors = (found[index] ?? []).map((values, part) => {
      const tolerance = part === 0 ? VALUE_TOLERANCE : GRADIENT_TOLERANCE;
      return relativeError(values, expected[index]?.[part] ?? new Float32Array()) / tolerance;
    });
    t.ok(
      errors.length > 1 && errors.every((error) => error <= 1),
      `${name}: ${errors.map((error) => error.toExponential(1)).join(", ")} of the tolerance`,
    );
  });
}
