// The few parts of the global WebAssembly object that our kernels use, with types: those of Node 20 declare none, and
// those of browsers would bring the whole DOM into the program.

/** The buffer of a memory that threads share is a SharedArrayBuffer, with which typed arrays do the same. */
export type WasmMemory = { readonly buffer: ArrayBuffer; grow(pages: number): number };
export type WasmExports = Readonly<Record<string, unknown>>;
/** Compiled; it can be sent to another thread. */
export type WasmModule = object;

type Instance = { readonly exports: WasmExports };
type WebAssemblyGlobal = {
  readonly Memory: new (descriptor: { initial: number }) => WasmMemory;
  readonly Module: new (binary: Uint8Array) => WasmModule;
  readonly Instance: new (module: WasmModule, imports: { env: { memory?: WasmMemory } }) => Instance;
  instantiate: (binary: Uint8Array, imports: object) => Promise<object>;
};

// Every supported Node has it.
const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyGlobal };

export const wasmPageBytes = 65_536;

export function isWasmMemory(value: unknown): value is WasmMemory {
  return value instanceof WebAssembly.Memory;
}

export function isShared({ buffer }: WasmMemory): boolean {
  return (buffer as unknown) instanceof SharedArrayBuffer; // Its type does not say so.
}

/** @throws CompileError of WebAssembly */
export function compile(binary: Uint8Array): WasmModule {
  return new WebAssembly.Module(binary);
}

/** The exports of a module that imports nothing, or nothing but a memory. */
export function instantiate(module: WasmModule, memory?: WasmMemory): WasmExports {
  return new WebAssembly.Instance(module, { env: memory ? { memory } : {} }).exports;
}

/** Every binary that is instantiated asynchronously until `act` ends is changed before, whoever does so. */
export async function whileRewriting<T>(
  rewrite: (binary: Uint8Array) => Uint8Array,
  act: () => Promise<T>,
): Promise<T> {
  const { instantiate: original } = WebAssembly;
  WebAssembly.instantiate = (binary, imports) => original(rewrite(binary), imports);
  try {
    return await act();
  } finally {
    WebAssembly.instantiate = original;
  }
}
