// How far two results of one computation lie apart.

import type { tf } from "../tensors.ts";

/**
 * Of the largest value of all tensors of its kind, below which a tensor counts as zero: its numbers are rounding. A kind is
 * the first word of a name, as of "gradient 12" and "second adapters.b.up.weight".
 */
const NULL_SHARE = 1e-4;

/** The largest relative L2 error of any tensor; infinite where names or shapes differ or one is not a number. */
export function largestError(expected: tf.NamedTensorMap, found: tf.NamedTensorMap): number {
  const kinds = pairsByKind(expected, found);
  if (kinds === null) return Number.POSITIVE_INFINITY;
  const errors = kinds.flatMap((pairs) => {
    const nullMax = NULL_SHARE * pairs.reduce((most, { given }) => Math.max(most, largestOf(given)), 0);
    return pairs.map((pair) => {
      const { difference, size } = squaresOf(pair);
      if (Math.sqrt(difference) <= nullMax * Math.sqrt(pair.given.length)) return 0;
      return relative(difference, size);
    });
  });
  return Math.max(0, ...errors);
}

/** The largest relative L2 error of any kind of tensors, all of a kind together; infinite as above. */
export function errorOfKinds(expected: tf.NamedTensorMap, found: tf.NamedTensorMap): number {
  const kinds = pairsByKind(expected, found);
  if (kinds === null) return Number.POSITIVE_INFINITY;
  const errors = kinds.map((pairs) => {
    const all = pairs.map(squaresOf);
    const sumOf = (key: keyof Squares): number => all.reduce((sum, squares) => sum + squares[key], 0);
    return relative(sumOf("difference"), sumOf("size"));
  });
  return Math.max(0, ...errors);
}

type Pair = { readonly given: Numbers; readonly other: Numbers };

/** Null where names or shapes differ. */
function pairsByKind(expected: tf.NamedTensorMap, found: tf.NamedTensorMap): Pair[][] | null {
  const names = Object.keys(expected);
  const isSameForm = names.every((name) => String(expected[name]?.shape) === String(found[name]?.shape));
  if (!isSameForm || names.length !== Object.keys(found).length) return null;
  const kinds = new Map<string | undefined, Pair[]>();
  for (const name of names) {
    const kind = name.split(" ")[0];
    const pairs = kinds.get(kind) ?? [];
    pairs.push({ given: values(expected[name]), other: values(found[name]) });
    kinds.set(kind, pairs);
  }
  return [...kinds.values()];
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

type Squares = { readonly difference: number; readonly size: number };

function squaresOf({ given, other }: Pair): Squares {
  let [difference, size] = [0, 0];
  for (let index = 0; index < given.length; index += 1) {
    const value = given[index] ?? Number.NaN;
    difference += (value - (other[index] ?? Number.NaN)) ** 2;
    size += value ** 2;
  }
  return { difference, size };
}

/** From sums of squares. */
function relative(difference: number, size: number): number {
  if (!Number.isFinite(difference)) return Number.POSITIVE_INFINITY;
  if (difference === 0) return 0;
  return size === 0 ? Number.POSITIVE_INFINITY : Math.sqrt(difference / size);
}
