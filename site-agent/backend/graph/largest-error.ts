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
  const largest = Math.max(
    ...pairs.map(([given]) => given.reduce((most, value) => Math.max(most, Math.abs(value)), 0)),
  );
  return Math.max(0, ...pairs.map(([given, other]) => relativeError(given, other, NULL_SHARE * largest)));
}

function values(tensor: tf.Tensor | undefined): readonly number[] {
  return tensor ? [...tensor.dataSync()].map(Number) : [];
}

function relativeError(given: readonly number[], found: readonly number[], nullMax: number): number {
  let [difference, size] = [0, 0];
  given.forEach((value, index) => {
    difference += (value - (found[index] ?? Number.NaN)) ** 2;
    size += value ** 2;
  });
  if (!Number.isFinite(difference)) return Number.POSITIVE_INFINITY;
  if (Math.sqrt(difference) <= nullMax * Math.sqrt(given.length)) return 0;
  return size === 0 ? Number.POSITIVE_INFINITY : Math.sqrt(difference / size);
}
