// Percentiles by linear interpolation between order statistics, as numpy defines them. Exact, in linear time on average
// and without sorting the whole array.

import { assert } from "@consilium/shared/base/assert.ts";

/** @param share 0..1 of the way through the sorted values. The values are not changed. */
export function percentile(values: Float32Array | Float64Array, share: number): number {
  return percentiles(values, [share])[0] ?? Number.NaN;
}

/** Several percentiles of the same values for the price of one copy. */
export function percentiles(values: Float32Array | Float64Array, shares: readonly number[]): number[] {
  assert(values.length > 0, "percentiles need at least one value");
  const scratch = values.slice();
  return shares.map((share) => {
    const position = share * (scratch.length - 1);
    const below = Math.floor(position);
    const low = selected(scratch, below);
    const fraction = position - below;
    return fraction === 0 ? low : low + fraction * (smallestFrom(scratch, below + 1) - low);
  });
}

/** Hoare's selection: afterwards `values[rank]` is in its sorted place and nothing before it is larger. */
function selected(values: Float32Array | Float64Array, rank: number): number {
  let left = 0;
  let right = values.length - 1;
  while (left < right) {
    const pivot = medianOfThree(values, left, right);
    let low = left;
    let high = right;
    while (low <= high) {
      while ((values[low] ?? 0) < pivot) low += 1;
      while ((values[high] ?? 0) > pivot) high -= 1;
      if (low > high) break;
      const swapped = values[low] ?? 0;
      values[low] = values[high] ?? 0;
      values[high] = swapped;
      low += 1;
      high -= 1;
    }
    if (rank <= high) right = high;
    else if (rank >= low) left = low;
    else break; // Between the two lies only the pivot itself.
  }
  return values[rank] ?? Number.NaN;
}

function medianOfThree(values: Float32Array | Float64Array, left: number, right: number): number {
  const a = values[left] ?? 0;
  const b = values[(left + right) >>> 1] ?? 0;
  const c = values[right] ?? 0;
  return Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
}

function smallestFrom(values: Float32Array | Float64Array, start: number): number {
  let smallest = Number.POSITIVE_INFINITY;
  for (let index = start; index < values.length; index += 1) {
    const value = values[index] ?? 0;
    if (value < smallest) smallest = value;
  }
  return smallest;
}
