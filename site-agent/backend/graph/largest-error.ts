// How far two results of one computation lie apart.

import type { tf } from "../tensors.ts";

/** Of the largest value of all, below which a tensor counts as zero: its numbers are rounding. */
const NULL_SHARE = 1e-4;

/** The largest relative L2 error of any tensor; infinite where names or shapes differ or one is not a number. */
export function largestError(expected: tf.NamedTensorMap, found: tf.NamedTensorMap): number {
  const names = Object.keys(expected);
  const isSameForm = names.every((name) => String(expected[name]?.shape) === String(found[name]?.shape));
  if (!isSameForm || names.length !== Object.keys(found).length) return Number.POSITIVE_INFINITY;
  const pairs = names.map((name) => [values(expected[name]), values(found[name])] as const);
  const largest = pairs.reduce((most, [given]) => Math.max(most, largestOf(given)), 0);
  return pairs.reduce(
    (most, [given, other]) => Math.max(most, relativeError(given, other, NULL_SHARE * largest)),
    0,
  );
}

type Numbers = Float32Array | Int32Array | Uint8Array;

function values(tensor: tf.Tensor | undefined): Numbers {
  return tensor?.dataSync() ?? new Float32Array();
}

function largestOf(numbers: Numbers): number {
  let most = 0;
  for (const value of numbers) most = Math.max(most, Math.abs(value));
  return most;
}

function relativeError(given: Numbers, found: Numbers, nullMax: number): number {
  let [difference, size] = [0, 0];
  for (let index = 0; index < given.length; index += 1) {
    const value = given[index] ?? Number.NaN;
    difference += (value - (found[index] ?? Number.NaN)) ** 2;
    size += value ** 2;
  }
  if (!Number.isFinite(difference)) return Number.POSITIVE_INFINITY;
  if (Math.sqrt(difference) <= nullMax * Math.sqrt(given.length)) return 0;
  return size === 0 ? Number.POSITIVE_INFINITY : Math.sqrt(difference / size);
}
