// Our WebAssembly kernels, compiled and bound to a memory. The signatures below repeat the .wat files in words that
// TypeScript can check: pointers and distances are bytes, counts are elements and never 0.

import { setFlagsFromString } from "node:v8";
import {
  compile,
  instantiate,
  isShared,
  type WasmExports,
  type WasmMemory,
  type WasmModule,
} from "@consilium/shared/base/web-assembly.ts";
import { wasmBase64 as depthwise } from "./depthwise.wasm.ts";
import { wasmBase64 as exponentials } from "./exponentials.wasm.ts";
import { wasmBase64 as fusedProducts } from "./fused-products.wasm.ts";
import { wasmBase64 as layout } from "./layout.wasm.ts";
import { wasmBase64 as norms } from "./norms.wasm.ts";
import { wasmBase64 as optimiser } from "./optimiser.wasm.ts";
import { wasmBase64 as products } from "./products.wasm.ts";
import { withSharedMemory } from "./shared-memory.ts";
import { wasmBase64 as smallProducts } from "./small-products.wasm.ts";

type Kernel<Count extends number, Result = void> = (...args: Tuple<Count>) => Result;
type Tuple<Count extends number, Built extends number[] = []> = Built["length"] extends Count
  ? Built
  : Tuple<Count, [...Built, number]>;

/** See the .wat files for the meaning and the order of the arguments. */
export type TrainingModule = {
  readonly convolve: Kernel<19>;
  readonly filter_gradient: Kernel<18>;
  readonly depthwise_convolve: Kernel<16>;
  readonly depthwise_filter_gradient: Kernel<16>;
  readonly pack_panels: Kernel<7>;
  readonly copy_rows: Kernel<6>;
  readonly clear: Kernel<2>;
  readonly pad_images: Kernel<9>;
  readonly column_sums: Kernel<4>;
  readonly add_bias: Kernel<5>;
  readonly instance_norm: Kernel<11>;
  readonly instance_norm_gradient: Kernel<13>;
  readonly layer_norm: Kernel<9>;
  readonly layer_norm_gradient: Kernel<8>;
  readonly layer_norm_scale_gradient: Kernel<7>;
  readonly small_products: Kernel<11>;
  readonly small_row_products: Kernel<9>;
  readonly gelu: Kernel<3>;
  readonly gelu_gradient: Kernel<4>;
  readonly scaled_softmax: Kernel<5>;
  readonly scaled_softmax_gradient: Kernel<6>;
  readonly swap_pairs: Kernel<3>;
  readonly sum_squares: Kernel<2, number>;
  readonly adamw: Kernel<17>;
};

export type InstantiatedModule = {
  readonly module: TrainingModule;
  /** All that is in it, as other threads instantiate it on the same memory. */
  readonly compiled: readonly WasmModule[];
  /** True when the products run on the instruction that may multiply and add without rounding in between. */
  readonly relaxed: boolean;
};

/**
 * The kernels on a memory, with the faster products where this version of Node can compile them.
 * @throws CompileError, LinkError of WebAssembly on a machine without SIMD.
 */
export function instantiateTrainingModule(memory: WasmMemory): InstantiatedModule {
  const others = [depthwise, exponentials, layout, norms, optimiser, smallProducts].map((base64) =>
    compileFor(memory, base64),
  );
  const fused = compileFused(memory);
  const compiled = [...others, fused ?? compileFor(memory, products)];
  const exported = compiled.map((one) => instantiate(one, memory));
  // The exports are those of the texts; a test compares them with the binaries.
  return { module: Object.assign({}, ...exported) as TrainingModule, compiled, relaxed: fused !== undefined };
}

/** Only the products; for comparing the two forms. */
export function instantiateProducts(memory: WasmMemory, form: "fused" | "separate"): WasmExports | undefined {
  const compiled = form === "fused" ? compileFused(memory) : compileFor(memory, products);
  return compiled && instantiate(compiled, memory);
}

function compileFused(memory: WasmMemory): WasmModule | undefined {
  for (const enable of [() => {}, enableRelaxedSimd]) {
    try {
      enable();
      return compileFor(memory, fusedProducts);
    } catch {
      // This version of Node does not know the instruction, or not yet.
    }
  }
  return undefined;
}

/** Relaxed SIMD is part of WebAssembly 3; Node 20 has it behind this flag. The flag changes nothing that is compiled. */
function enableRelaxedSimd(): void {
  setFlagsFromString("--experimental-wasm-relaxed-simd");
}

function compileFor(memory: WasmMemory, base64: string): WasmModule {
  const binary = Buffer.from(base64, "base64");
  return compile(isShared(memory) ? withSharedMemory(binary) : binary);
}
