// The one mapping between PyTorch's order of a weight and TensorFlow's. Outside the models weights are always in
// PyTorch's order, under PyTorch's names; inside they are in the order that the operations take.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";

/**
 * - `plain`: no change: biases, norms, embeddings.
 * - `linear`: (out, in) to (in, out).
 * - `kernel`: convolution (out, in, height, width) to (height, width, in, out), and transposed convolution
 *   (in, out, height, width) to (height, width, out, in): the same permutation.
 * - `depthwise`: (channels, 1, height, width) to (height, width, channels, 1).
 */
export type TensorLayout = "plain" | "linear" | "kernel" | "depthwise";

/** Axis `i` of the tensor is axis `order[i]` of PyTorch's weight. */
const ORDER: Readonly<Record<Exclude<TensorLayout, "plain">, readonly number[]>> = {
  linear: [1, 0],
  kernel: [2, 3, 1, 0],
  depthwise: [2, 3, 0, 1],
};

/** The shape inside the model of a weight with PyTorch's shape. */
export function layoutShape(shape: readonly number[], layout: TensorLayout): number[] {
  if (layout === "plain") return [...shape];
  assert(shape.length === ORDER[layout].length, `a ${layout} weight has ${ORDER[layout].length} axes`);
  return ORDER[layout].map((axis) => expectDefined(shape[axis], "axis of a permutation"));
}

/** Values in the model's order; `shape` is PyTorch's. */
export function toLayout(values: Float32Array, shape: readonly number[], layout: TensorLayout): Float32Array {
  return layout === "plain" ? values : permute(values, shape, ORDER[layout]);
}

/** Values in PyTorch's order; `shape` is PyTorch's. */
export function fromLayout(
  values: Float32Array,
  shape: readonly number[],
  layout: TensorLayout,
): Float32Array {
  if (layout === "plain") return values;
  const order = ORDER[layout];
  const inverse = order.map((_, axis) => order.indexOf(axis));
  return permute(values, layoutShape(shape, layout), inverse);
}

/** Axis `i` of the result is axis `order[i]` of the values. */
function permute(values: Float32Array, shape: readonly number[], order: readonly number[]): Float32Array {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
  const sizes = order.map((axis) => expectDefined(shape[axis], "axis of a permutation"));
  const steps = order.map((axis) => expectDefined(strides[axis], "axis of a permutation"));
  const result = new Float32Array(values.length);
  const position = sizes.map(() => 0);
  let source = 0;
  for (let index = 0; index < result.length; index += 1) {
    result[index] = values[source] ?? 0;
    source += advance(position, sizes, steps);
  }
  return result;
}

/** Move to the next position in row-major order; returns the change of the source index. */
function advance(position: number[], sizes: readonly number[], steps: readonly number[]): number {
  let change = 0;
  for (let axis = sizes.length - 1; axis >= 0; axis -= 1) {
    const next = (position[axis] ?? 0) + 1;
    const step = steps[axis] ?? 0;
    if (next < (sizes[axis] ?? 0)) {
      position[axis] = next;
      return change + step;
    }
    position[axis] = 0;
    change -= (next - 1) * step;
  }
  return change;
}
