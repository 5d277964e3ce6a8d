// Threads that compute parts of kernels on the memory that all share. The calling thread takes the first part itself and
// waits for the others: to whoever calls a kernel it is one call.

import { once } from "node:events";
import { Worker } from "node:worker_threads";
import type { WasmMemory, WasmModule } from "@consilium/shared/base/web-assembly.ts";
import { BackendError } from "../backend-error.ts";

/** Of a slot; it is starting until its thread waits for the first part. */
const STATES = { starting: 0, idle: 1, asked: 2, failed: 3 } as const;
const PLACES = { state: 0, kernel: 1, count: 2 } as const;
const ARGUMENTS_MAX = 24;

/** How a thread is asked: each has one of its own, in memory that both see. */
type Slot = { readonly integers: Int32Array; readonly arguments: Float64Array };

/** What kernel-worker.js gets. */
type WorkerTask = {
  readonly modules: readonly WasmModule[];
  readonly memory: WasmMemory;
  /** By their numbers. */
  readonly kernels: readonly string[];
  readonly slot: Slot;
  readonly places: typeof PLACES;
  readonly states: typeof STATES;
};

/** No part of a kernel takes a hundredth of this. */
const PART_MS_MAX = 120_000;
/** The caller looks this often before it sleeps; it has just computed a part as large as the others. */
const LOOKS_MAX = 2000;

export type Kernel = (...given: number[]) => unknown;

export class KernelThreads {
  readonly #slots: readonly Slot[];
  readonly #kernels: ReadonlyMap<string, number>;
  readonly #workers: readonly Worker[];

  private constructor(workers: readonly Worker[], slots: readonly Slot[], kernels: readonly string[]) {
    this.#workers = workers;
    this.#slots = slots;
    this.#kernels = new Map(kernels.map((name, index) => [name, index]));
  }

  /**
   * @param count with the calling thread, which is one of them
   * @param compiled that export the kernels, for a memory that is shared
   * @throws what a thread throws that cannot start
   */
  static async start(
    count: number,
    {
      memory,
      compiled,
      kernels,
    }: { memory: WasmMemory; compiled: readonly WasmModule[]; kernels: readonly string[] },
  ): Promise<KernelThreads> {
    const slots = Array.from({ length: count - 1 }, emptySlot);
    const workers = slots.map((slot) => {
      const own = { slot, places: PLACES, states: STATES };
      const workerData: WorkerTask = { modules: compiled, memory, kernels, ...own };
      const worker = new Worker(new URL("./kernel-worker.js", import.meta.url), { workerData, execArgv: [] });
      worker.unref();
      return worker;
    });
    await Promise.all(workers.map(started));
    return new KernelThreads(workers, slots, kernels);
  }

  /** With the calling thread. */
  get count(): number {
    return this.#slots.length + 1;
  }

  /**
   * Calls a kernel once for each list of arguments, all at once.
   * @param own the same kernel in this thread
   * @param parts no more than there are threads
   * @throws BackendError `backend.thread-failed`
   */
  run(kernel: string, own: Kernel, [first = [], ...others]: readonly (readonly number[])[]): void {
    const number = this.#kernels.get(kernel) ?? -1;
    const asked = others.map((part, index) => {
      const slot = this.#slots[index];
      // A thread that never answered may still be writing.
      const isFree = slot && Atomics.load(slot.integers, PLACES.state) !== STATES.asked;
      if (!isFree || part.length > ARGUMENTS_MAX) throw threadFailed(kernel);
      ask(slot, number, part);
      return slot;
    });
    let states: number[] = [];
    try {
      own(...first);
    } finally {
      states = asked.map(stateBehind);
    }
    if (states.some((state) => state !== STATES.idle)) throw threadFailed(kernel);
  }

  async stop(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}

function emptySlot(): Slot {
  const integers = new Int32Array(new SharedArrayBuffer(Object.keys(PLACES).length * 4));
  return { integers, arguments: new Float64Array(new SharedArrayBuffer(ARGUMENTS_MAX * 8)) };
}

/** It says so before it waits for its first part. */
async function started(worker: Worker): Promise<void> {
  await once(worker, "message");
}

function ask({ integers, arguments: given }: Slot, kernel: number, part: readonly number[]): void {
  given.set(part);
  integers[PLACES.kernel] = kernel;
  integers[PLACES.count] = part.length;
  Atomics.store(integers, PLACES.state, STATES.asked);
  Atomics.notify(integers, PLACES.state);
}

/** The state once the part is computed, or after a time in which every part is. */
function stateBehind({ integers }: Slot): number {
  for (let look = 0; look < LOOKS_MAX; look += 1) {
    const state = Atomics.load(integers, PLACES.state);
    if (state !== STATES.asked) return state;
  }
  // What wakes it may be the late call of a part that was seen to be done before.
  while (Atomics.load(integers, PLACES.state) === STATES.asked)
    if (Atomics.wait(integers, PLACES.state, STATES.asked, PART_MS_MAX) === "timed-out") break;
  return Atomics.load(integers, PLACES.state);
}

function threadFailed(kernel: string): BackendError {
  return new BackendError(
    "backend.thread-failed",
    `A thread failed at a part of the kernel ${kernel}; start without threads.`,
  );
}
