// The heap of the stock wasm backend as our kernels need it: where a tensor lies, new tensors, lent scratch space.
// It guards allocation. The stock backend takes the null pointer of a failed malloc for an address and writes the
// tensor over whatever lies there; here a failure, and a sum beyond the byte budget, is a coded error.

import { isWasmMemory, type WasmMemory } from "@consilium/shared/base/web-assembly.ts";
import { BackendError } from "../backend-error.ts";
import { tf } from "../tensors.ts";

/** WebAssembly memory ends at 4 GiB; the rest is for the stock kernels' own buffers. */
export const HEAP_BYTES_BUDGET = 3 * 1024 ** 3;

const SCRATCH_ALIGNMENT_BYTES = 16;

/** The parts of the stock backend's objects that are used here, as of tfjs-backend-wasm 4.22.0. */
type StockModule = {
  readonly asm: { readonly memory: WasmMemory };
  _malloc: (bytes: number) => number;
  _free: (pointer: number) => void;
};
type StockBackend = {
  readonly wasm: StockModule;
  readonly dataIdMap: { get(dataId: object): { readonly memoryOffset: number } };
  incRef(dataId: object): void;
  disposeData(dataId: object, force: boolean): boolean;
  makeOutput(shape: readonly number[], dtype: string): tf.TensorInfo;
};

export class WasmHeap {
  readonly memory: WasmMemory;
  /** Lowering it below what is in use makes the next allocation fail. */
  budgetBytes = HEAP_BYTES_BUDGET;
  readonly #backend: StockBackend;
  readonly #sizes = new Map<number, number>();
  #usedBytes = 0;
  /** Of the kernel that is running. */
  #outputs: tf.TensorInfo[] = [];

  /** @throws BackendError when the running wasm backend is not the one these kernels were written for. */
  constructor() {
    // The stock backend does not export these types; each part is checked below.
    const backend = tf.backend() as unknown as Partial<StockBackend>;
    const usable =
      tf.getBackend() === "wasm" &&
      isWasmMemory(backend.wasm?.asm?.memory) &&
      typeof backend.wasm?._malloc === "function" &&
      typeof backend.makeOutput === "function" &&
      typeof backend.incRef === "function" &&
      typeof backend.disposeData === "function" &&
      backend.dataIdMap !== undefined;
    if (!usable) {
      const advice = "install @tensorflow/tfjs-backend-wasm 4.22.0, which the lock file names";
      throw new BackendError(
        "backend.kernels-missing",
        `The wasm backend's memory is not reachable; ${advice}.`,
      );
    }
    this.#backend = backend as StockBackend; // Every part that is used was just checked.
    this.memory = this.#backend.wasm.asm.memory;
    this.#guard(this.#backend.wasm);
  }

  /** Bytes in tensors and lent scratch space since the guard was set. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Bytes of the whole WebAssembly memory, which never shrinks. */
  get heapBytes(): number {
    return this.memory.buffer.byteLength;
  }

  /** Address of a tensor's first byte. */
  pointer(tensor: tf.TensorInfo): number {
    return this.#backend.dataIdMap.get(tensor.dataId).memoryOffset;
  }

  /** A new tensor whose numbers are not set. */
  output(shape: readonly number[], dtype: "float32" | "int32" = "float32"): tf.TensorInfo {
    const output = this.#backend.makeOutput([...shape], dtype);
    this.#outputs.push(output);
    return output;
  }

  /** What `kernel` returns; when it throws, the outputs that it has already taken are given back. */
  settle<T>(kernel: () => T): T {
    const outer = this.#outputs;
    this.#outputs = [];
    try {
      return kernel();
    } catch (error) {
      for (const { dataId } of this.#outputs) this.#backend.disposeData(dataId, true);
      throw error;
    } finally {
      this.#outputs = outer;
    }
  }

  /** One more tensor lies where this one does; the bytes stay until the last of them is disposed. */
  share(tensor: tf.TensorInfo): void {
    this.#backend.incRef(tensor.dataId);
  }

  /** A view that holds until the next allocation: growing the memory detaches it. */
  float32(tensor: tf.TensorInfo): Float32Array {
    return new Float32Array(this.memory.buffer, this.pointer(tensor), tf.util.sizeFromShape(tensor.shape));
  }

  /** As `float32`. */
  int32(tensor: tf.TensorInfo): Int32Array {
    return new Int32Array(this.memory.buffer, this.pointer(tensor), tf.util.sizeFromShape(tensor.shape));
  }

  /** Lend named scratch areas of the given bytes, each with a little room behind it for reads of whole vectors. */
  lend<Name extends string, T>(bytes: Record<Name, number>, use: (at: Record<Name, number>) => T): T {
    const names = Object.keys(bytes) as Name[]; // Object.keys forgets the key type.
    const ends: number[] = [];
    for (const name of names) ends.push((ends.at(-1) ?? 0) + scratchBytes(bytes[name]));
    const base = this.#backend.wasm._malloc(ends.at(-1) ?? 0);
    const starts = names.map((name, index) => [name, base + (index === 0 ? 0 : (ends[index - 1] ?? 0))]);
    try {
      return use(Object.fromEntries(starts) as Record<Name, number>); // One entry for every name.
    } finally {
      this.#backend.wasm._free(base);
    }
  }

  /** Scratch space that is never given back. */
  reserve(bytes: number): number {
    const base = this.#backend.wasm._malloc(bytes + SCRATCH_ALIGNMENT_BYTES);
    return base + SCRATCH_ALIGNMENT_BYTES - (base % SCRATCH_ALIGNMENT_BYTES);
  }

  #guard(module: StockModule): void {
    // The stock functions replace themselves in the module when they are first called, and would replace the guard.
    module._free(module._malloc(SCRATCH_ALIGNMENT_BYTES));
    const { _malloc: allocate, _free: release } = module;
    module._malloc = (bytes) => {
      const pointer = this.#usedBytes + bytes > this.budgetBytes ? 0 : allocate(bytes) >>> 0;
      if (pointer === 0) throw outOfMemory(bytes, this.#usedBytes, this.budgetBytes);
      this.#sizes.set(pointer, bytes);
      this.#usedBytes += bytes;
      return pointer;
    };
    module._free = (pointer) => {
      const address = pointer >>> 0;
      this.#usedBytes -= this.#sizes.get(address) ?? 0;
      this.#sizes.delete(address);
      release(pointer);
    };
  }
}

function scratchBytes(bytes: number): number {
  return (Math.floor(bytes / SCRATCH_ALIGNMENT_BYTES) + 2) * SCRATCH_ALIGNMENT_BYTES;
}

function outOfMemory(bytes: number, usedBytes: number, budgetBytes: number): BackendError {
  const mebibytes = (count: number) => Math.ceil(count / 1024 ** 2);
  const state = `${mebibytes(bytes)} MiB more than the ${mebibytes(usedBytes)} MiB in use, budget ${mebibytes(budgetBytes)} MiB`;
  return new BackendError(
    "backend.out-of-memory",
    `Training needs ${state}: choose a smaller batch or image size, or a backend on the GPU.`,
  );
}
