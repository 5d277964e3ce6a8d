// When a result counts as equal to the reference, by the rules that come with the goldens: an absolute bound from the
// noise of float32, a size check for what is zero in exact arithmetic, and for gradients through kinks the relative
// L2 error, which is reported.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { type Golden, goldenTensor } from "./golden.ts";

/** Where one pre-activation lies within rounding of a kink, one element's slope flips. */
const KINK_ERROR_L2_MAX = 1e-3;
/** Of the largest gradient of the case. */
const NULL_SHARE_MAX = 1e-4;

export type Verdict = { readonly accepted: boolean; readonly text: string };

/** @param found in PyTorch's order */
export function compareOutput(golden: Golden, name: string, found: ArrayLike<number>): Verdict {
  const { values } = goldenTensor(golden.outputs, name);
  const tolerance = expectDefined(golden.tolerances[name], `tolerance of ${name}`);
  const error = largestDifference(found, values);
  const bound = tolerance.exact ? 0 : expectDefined(tolerance.tol, `bound of ${name}`);
  return {
    accepted: error <= bound,
    text: `${name}: off by ${error.toExponential(1)} of ${bound.toExponential(1)}`,
  };
}

/** @param found in PyTorch's order */
export function compareGradient(golden: Golden, name: string, found: ArrayLike<number>): Verdict {
  const key = `grad/${name}`;
  const { values } = goldenTensor(golden.gradients, key);
  const tolerance = expectDefined(golden.tolerances[key], `tolerance of ${key}`);
  if (tolerance.null) {
    const bound = NULL_SHARE_MAX * largestGradient(golden);
    const size = largestDifference(found, new Float32Array(values.length));
    return { accepted: size < bound, text: `${key}: ${size.toExponential(1)} where it is zero` };
  }
  const bound = expectDefined(tolerance.tol, `bound of ${key}`);
  const error = largestDifference(found, values);
  const text = `${key}: off by ${error.toExponential(1)} of ${bound.toExponential(1)}`;
  if (error <= bound) return { accepted: true, text };
  const relative = relativeErrorL2(found, values);
  return {
    accepted: relative <= KINK_ERROR_L2_MAX,
    text: `${text}, relative L2 error ${relative.toExponential(1)}`,
  };
}

function largestDifference(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (found.length !== expected.length) return Number.POSITIVE_INFINITY;
  let largest = 0;
  for (let index = 0; index < found.length; index += 1) {
    const difference = Math.abs((found[index] ?? 0) - (expected[index] ?? 0));
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

function relativeErrorL2(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  let [error, size] = [0, 0];
  for (let index = 0; index < expected.length; index += 1) {
    error += ((found[index] ?? 0) - (expected[index] ?? 0)) ** 2;
    size += (expected[index] ?? 0) ** 2;
  }
  return found.length === expected.length ? Math.sqrt(error / size) : Number.POSITIVE_INFINITY;
}

function largestGradient({ tolerances }: Golden): number {
  const gradients = Object.entries(tolerances).filter(
    ([name, { null: none }]) => name.startsWith("grad/") && !none,
  );
  return Math.max(...gradients.map(([, { absmax }]) => absmax ?? 0));
}
