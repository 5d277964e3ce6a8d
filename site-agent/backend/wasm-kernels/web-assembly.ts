// The few parts of the global WebAssembly object that the kernels use, with types: those of Node 20 declare none, and
// those of browsers would bring the whole DOM into the program.

export type WasmMemory = { readonly buffer: ArrayBuffer };

type Instance = { readonly exports: Readonly<Record<string, unknown>> };
type WebAssemblyGlobal = {
  readonly Memory: new (descriptor: { initial: number }) => WasmMemory;
  readonly Module: new (binary: Uint8Array) => object;
  readonly Instance: new (module: object, imports: { env: { memory: WasmMemory } }) => Instance;
};

// Every supported Node has it.
const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyGlobal };

export function isWasmMemory(value: unknown): value is WasmMemory {
  return value instanceof WebAssembly.Memory;
}

/** The exports of a binary that imports nothing but the memory. */
export function instantiate(binary: Uint8Array, memory: WasmMemory): Instance["exports"] {
  return new WebAssembly.Instance(new WebAssembly.Module(binary), { env: { memory } }).exports;
}
