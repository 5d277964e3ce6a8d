// The few parts of the global WebAssembly object that our kernels use, with types: those of Node 20 declare none, and
// those of browsers would bring the whole DOM into the program.

export type WasmMemory = { readonly buffer: ArrayBuffer; grow(pages: number): number };
export type WasmExports = Readonly<Record<string, unknown>>;

type Instance = { readonly exports: WasmExports };
type WebAssemblyGlobal = {
  readonly Memory: new (descriptor: { initial: number }) => WasmMemory;
  readonly Module: new (binary: Uint8Array) => object;
  readonly Instance: new (module: object, imports: { env: { memory?: WasmMemory } }) => Instance;
};

// Every supported Node has it.
const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyGlobal };

export const wasmPageBytes = 65_536;

export function isWasmMemory(value: unknown): value is WasmMemory {
  return value instanceof WebAssembly.Memory;
}

/** The exports of a binary that imports nothing, or nothing but a memory. */
export function instantiate(binary: Uint8Array, memory?: WasmMemory): WasmExports {
  return new WebAssembly.Instance(new WebAssembly.Module(binary), { env: memory ? { memory } : {} }).exports;
}
