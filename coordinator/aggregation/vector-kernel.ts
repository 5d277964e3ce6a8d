// The hot loops of aggregation and intake over one block: hand-written WebAssembly SIMD, and the same arithmetic as
// plain loops, which auditors recompute with. Both give the same bits: float64 products and sums, one rounding.

import { assert } from "@consilium/shared/base/assert.ts";
import { compile, instantiate, type WasmMemory, wasmPageBytes } from "@consilium/shared/base/web-assembly.ts";
import { wasmBase64 } from "./vector-kernel.wasm.ts";

/** Elements of one block: its accumulator stays in a second-level cache. */
export const blockElements = 32 * 1024;

export type VectorKernel = {
  /** Where callers put a block of float32 before each call. */
  readonly input: Float32Array;
  /** Where `finish` leaves its result. */
  readonly output: Float32Array;
  /** Begin a block of `count` elements. */
  clear(count: number): void;
  /** accumulator += weight * input, in float64 */
  accumulate(count: number, weight: number): void;
  /** output = float32(input + accumulator / total) */
  finish(count: number, total: number): void;
  /** Sum of input[i]^2 in float64; not finite exactly when some element is not. */
  sumOfSquares(count: number): number;
};

type Exports = {
  readonly memory: WasmMemory;
  accumulate(accumulator: number, x: number, count: number, weight: number): void;
  finish(output: number, base: number, accumulator: number, count: number, total: number): void;
  sumOfSquares(x: number, count: number): number;
};

export function simdKernel(): VectorKernel {
  const kernel = instantiate(compile(Buffer.from(wasmBase64, "base64"))) as unknown as Exports; // The text declares these.
  const [inputAt, outputAt, accumulatorAt] = [0, 4 * blockElements, 8 * blockElements];
  const bytes = 16 * blockElements;
  kernel.memory.grow(Math.ceil(bytes / wasmPageBytes));
  const input = new Float32Array(kernel.memory.buffer, inputAt, blockElements);
  const output = new Float32Array(kernel.memory.buffer, outputAt, blockElements);
  const accumulator = new Float64Array(kernel.memory.buffer, accumulatorAt, blockElements);
  /** The loops take four elements at a time: what a shorter block leaves over is set to zero. */
  const padded = (count: number): number => {
    assert(count <= blockElements, "a block has a fixed capacity");
    const whole = Math.ceil(count / 4) * 4;
    input.fill(0, count, whole);
    return whole;
  };
  return {
    input,
    output,
    clear: (count) => void accumulator.fill(0, 0, Math.ceil(count / 4) * 4),
    accumulate: (count, weight) => kernel.accumulate(accumulatorAt, inputAt, padded(count), weight),
    finish: (count, total) => kernel.finish(outputAt, inputAt, accumulatorAt, padded(count), total),
    sumOfSquares: (count) => kernel.sumOfSquares(inputAt, padded(count)),
  };
}

export function plainKernel(): VectorKernel {
  const input = new Float32Array(blockElements);
  const output = new Float32Array(blockElements);
  const accumulator = new Float64Array(blockElements);
  return {
    input,
    output,
    clear: (count) => void accumulator.fill(0, 0, count),
    accumulate(count, weight) {
      for (let at = 0; at < count; at += 1)
        accumulator[at] = (accumulator[at] ?? 0) + weight * (input[at] ?? 0);
    },
    finish(count, total) {
      for (let at = 0; at < count; at += 1) output[at] = (input[at] ?? 0) + (accumulator[at] ?? 0) / total;
    },
    sumOfSquares(count) {
      const lanes = new Float64Array(4);
      for (let at = 0; at < count; at += 1) {
        const value = input[at] ?? 0;
        lanes[at % 4] = (lanes[at % 4] ?? 0) + value * value;
      }
      const [a = 0, b = 0, c = 0, d = 0] = lanes;
      return a + b + (c + d);
    },
  };
}
