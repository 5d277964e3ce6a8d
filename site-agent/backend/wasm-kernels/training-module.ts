// Our WebAssembly kernels, compiled and bound to a memory. The signatures below repeat the .wat files in words that
// TypeScript can check: pointers and distances are bytes, counts are elements and never 0.

import { instantiate, type WasmMemory } from "@consilium/shared/base/web-assembly.ts";
import { wasmBase64 as depthwise } from "./depthwise.wasm.ts";
import { wasmBase64 as layout } from "./layout.wasm.ts";
import { wasmBase64 as norms } from "./norms.wasm.ts";
import { wasmBase64 as optimiser } from "./optimiser.wasm.ts";
import { wasmBase64 as products } from "./products.wasm.ts";

type Kernel<Count extends number, Result = void> = (...args: Tuple<Count>) => Result;
type Tuple<Count extends number, Built extends number[] = []> = Built["length"] extends Count
  ? Built
  : Tuple<Count, [...Built, number]>;

/** See the .wat files for the meaning and the order of the arguments. */
export type TrainingModule = {
  readonly convolve: Kernel<19>;
  readonly filter_gradient: Kernel<18>;
  readonly depthwise_filter_gradient: Kernel<16>;
  readonly pack_panels: Kernel<7>;
  readonly copy_rows: Kernel<6>;
  readonly clear: Kernel<2>;
  readonly pad_images: Kernel<9>;
  readonly column_sums: Kernel<4>;
  readonly add_bias: Kernel<5>;
  readonly instance_norm: Kernel<11>;
  readonly instance_norm_gradient: Kernel<13>;
  readonly sum_squares: Kernel<2, number>;
  readonly adamw: Kernel<17>;
};

/** @throws CompileError, LinkError of WebAssembly on a machine without SIMD. */
export function instantiateTrainingModule(memory: WasmMemory): TrainingModule {
  const binaries = [depthwise, layout, norms, optimiser, products];
  const exports = binaries.map((base64) => instantiate(Buffer.from(base64, "base64"), memory));
  // The exports are those of the texts; a test compares them with the binaries.
  return Object.assign({}, ...exports) as TrainingModule;
}
