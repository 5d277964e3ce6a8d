// A tensor of a checkpoint that has not been read yet: its name, its shape, and how to get its numbers. Reading takes
// only the bytes between the tensor's first and last element, and gives them in row-major order.

import { dtypeBytes, type TensorDtype } from "@consilium/shared/encoding/tensor-bundle-header.ts";
import type { ByteSource } from "./byte-source.ts";
import { CheckpointError } from "./checkpoint-error.ts";
import { float32From } from "./float32-from.ts";

export type StoredTensor = {
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  /** A fresh array, row-major. */
  readonly read: () => Float32Array;
};

/** By name, in the order of the file. */
export type StoredTensors = ReadonlyMap<string, StoredTensor>;

/** Offset and strides in elements; `byteOffset` is where element 0 of the storage lies. */
export type StridedView = {
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly offset: number;
  readonly byteOffset: number;
  readonly isBigEndian: boolean;
};

/** @throws CheckpointError checkpoint.truncated when the view reaches beyond the source */
export function readView(source: ByteSource, view: StridedView): Float32Array {
  const { dtype, shape, strides, offset, byteOffset, isBigEndian } = view;
  if (shape.includes(0)) return new Float32Array(0);
  const span = shape.reduce((last, size, axis) => last + (size - 1) * (strides[axis] ?? 0), 1);
  const size = dtypeBytes(dtype);
  const stored = float32From(source.read(byteOffset + offset * size, span * size), dtype, isBigEndian);
  return isContiguous(shape, strides) ? stored : gathered(stored, shape, strides);
}

/** Elements of a shape. */
export function elementsOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** The strides of row-major order. */
export function rowMajorStrides(shape: readonly number[]): number[] {
  const strides = shape.map(() => 1);
  for (let axis = shape.length - 2; axis >= 0; axis -= 1) {
    strides[axis] = (strides[axis + 1] ?? 1) * (shape[axis + 1] ?? 1);
  }
  return strides;
}

function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  const expected = rowMajorStrides(shape);
  return shape.every((size, axis) => size === 1 || strides[axis] === expected[axis]);
}

function gathered(stored: Float32Array, shape: readonly number[], strides: readonly number[]): Float32Array {
  const values = new Float32Array(elementsOf(shape));
  const index = shape.map(() => 0);
  let position = 0;
  for (let element = 0; element < values.length; element += 1) {
    values[element] = stored[position] ?? 0;
    for (let axis = shape.length - 1; axis >= 0; axis -= 1) {
      const next = (index[axis] ?? 0) + 1;
      position += strides[axis] ?? 0;
      index[axis] = next;
      if (next < (shape[axis] ?? 0)) break;
      position -= next * (strides[axis] ?? 0);
      index[axis] = 0;
    }
  }
  return values;
}

/** Strided views may show one stored element in many places; more often than this nobody does. */
export const EXPANSION_MAX = 4;
const EXPANSION_SLACK_ELEMENTS = 65_536;

/**
 * @param shapes      of all tensors
 * @param storedCount elements of all data that they are made of, each counted once
 * @throws CheckpointError checkpoint.expansion before anything is allocated
 */
export function expectBoundedExpansion(shapes: readonly (readonly number[])[], storedCount: number): void {
  const shown = shapes.reduce((sum, shape) => sum + elementsOf(shape), 0);
  if (shown <= EXPANSION_MAX * storedCount + EXPANSION_SLACK_ELEMENTS) return;
  throw new CheckpointError("checkpoint.expansion", `${storedCount} elements`);
}
