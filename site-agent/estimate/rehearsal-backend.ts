// A backend that computes nothing: it keeps the size of every tensor and a list of every kernel call, so that the very
// code of a training step can be run to learn what it will ask of a real backend, in which order and with how much
// memory at once. What is read back from it is a drawn answer, for the code that decides by numbers.

import { type GraphCompiler, type GraphInputs, RecordingError } from "../backend/graph/compiled-graph.ts";
import { type CompilingBackend, graphBranches } from "../backend/graph/graph-compiler.ts";
import { tf } from "../backend/tensors.ts";
import { bytesOf, type CountedCall, callKey, type KernelCall, type TensorForm } from "./kernel-call.ts";
import { kernelOutputs, LISTING_KERNELS, SHARING_KERNELS } from "./kernel-outputs.ts";
import { kernelWork } from "./kernel-work.ts";
import { type GraphRun, type GraphStage, RehearsedGraph, type TracedCall } from "./rehearsed-graph.ts";

const NAME = "rehearsal";

export type ReadBack = (form: TensorForm) => Float32Array;

type Entry = { readonly form: TensorForm; refCount: number };

class RehearsalBackend extends tf.KernelBackend implements CompilingBackend, GraphStage {
  readonly calls = new Map<string, CountedCall>();
  readonly graphs = { nodes: 0, runs: 0, tensors: 0 };
  liveBytes = 0;
  peakBytes = 0;
  /** Calls are counted; before and after that only memory is, and after it not even scratch space. */
  phase: "before" | "counting" | "after" = "before";
  readonly graphCompiler: GraphCompiler | null;
  readonly #tensors = new Map<object, Entry>();
  readonly #readBack: ReadBack;
  /** Of the computation that is being recorded. */
  #traced: TracedCall[] | null = null;

  constructor(readBack: ReadBack, branches: number) {
    super();
    this.#readBack = readBack;
    this.graphCompiler = branches > 0 ? { branches, record: (...given) => this.#record(...given) } : null;
  }

  #record<Outputs extends tf.NamedTensorMap>(
    inputs: GraphInputs,
    later: readonly string[],
    compute: () => Outputs,
  ): { outputs: Outputs; load: () => RehearsedGraph } {
    const calls: TracedCall[] = [];
    this.#traced = calls;
    let outputs: Outputs;
    try {
      outputs = compute();
    } finally {
      this.#traced = null;
    }
    this.graphs.nodes += calls.length;
    return { outputs, load: () => new RehearsedGraph(this, { calls, inputs, later, outputs }) };
  }

  runGraph({ calls, peakBytes, tensorCount }: GraphRun): void {
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes + peakBytes);
    if (this.phase !== "counting") return;
    this.graphs.runs += 1;
    this.graphs.tensors += tensorCount;
    for (const call of calls) this.#count(call, true);
  }

  /** A new tensor, of which nothing is kept but its form. */
  make(form: TensorForm): tf.TensorInfo {
    const dataId = {};
    this.#tensors.set(dataId, { form, refCount: 1 });
    this.liveBytes += bytesOf(form);
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes);
    return { dataId, shape: [...form.shape], dtype: form.dtype };
  }

  run(kernel: string, inputs: tf.NamedTensorInfoMap, attributes: object): tf.TensorInfo[] {
    const forms: Record<string, TensorForm> = {};
    for (const [name, tensor] of Object.entries(inputs))
      if (tensor) forms[name] = { shape: tensor.shape, dtype: tensor.dtype };
    const given = { kernel, inputs: forms, attributes: attributes as KernelCall["attributes"] }; // Plain objects.
    const outputs = kernelOutputs(kernel, forms, given.attributes);
    const call = { ...given, isList: Array.isArray(inputs), outputs };
    const [x] = Object.values(inputs);
    if (x && SHARING_KERNELS.includes(kernel)) {
      this.#count(call, false);
      this.incRef(x.dataId);
      return outputs.map(({ shape, dtype }) => ({ dataId: x.dataId, shape: [...shape], dtype }));
    }
    this.#noteScratch(call);
    this.#count(call, false);
    const made = outputs.map((form) => this.make(form));
    const read = Object.values(inputs).flatMap((tensor) => tensor?.dataId ?? []);
    this.#traced?.push({ call, inputs: read, outputs: made.map(({ dataId }) => dataId) });
    return made;
  }

  #count(call: KernelCall, inGraph: boolean): void {
    if (this.phase !== "counting") return;
    const key = `${inGraph} ${callKey(call)}`;
    const known = this.calls.get(key);
    if (known) known.count += 1;
    else this.calls.set(key, { call, inGraph, count: 1 });
  }

  #noteScratch(call: KernelCall): void {
    if (this.phase === "after") return;
    const taken = call.outputs.reduce((sum, form) => sum + bytesOf(form), kernelWork(call).scratchBytes);
    this.peakBytes = Math.max(this.peakBytes, this.liveBytes + taken);
  }

  override write(_values: unknown, shape: number[], dtype: tf.DataType): object {
    return this.make({ shape, dtype }).dataId;
  }

  override readSync(dataId: object): Float32Array {
    if (this.#traced) throw new RecordingError("the computation reads numbers back, which a graph cannot");
    const form = this.#tensors.get(dataId)?.form ?? { shape: [], dtype: "float32" };
    return this.#readBack(form);
  }

  override async read(dataId: object): Promise<Float32Array> {
    return this.readSync(dataId);
  }

  override incRef(dataId: object): void {
    const entry = this.#tensors.get(dataId);
    if (entry) entry.refCount += 1;
  }

  override refCount(dataId: object): number {
    return this.#tensors.get(dataId)?.refCount ?? 0;
  }

  override disposeData(dataId: object, force = false): boolean {
    const entry = this.#tensors.get(dataId);
    if (!entry) return true;
    entry.refCount -= 1;
    if (entry.refCount > 0 && !force) return false;
    this.#tensors.delete(dataId);
    this.liveBytes -= bytesOf(entry.form);
    return true;
  }

  override numDataIds(): number {
    return this.#tensors.size;
  }

  override memory(): { unreliable: boolean } {
    return { unreliable: false };
  }

  override floatPrecision(): 32 {
    return 32;
  }

  override epsilon(): number {
    return 1e-7;
  }

  override timerAvailable(): boolean {
    return false;
  }

  override dispose(): void {
    this.#tensors.clear();
  }
}

export type RehearsedGraphs = {
  /** Kernel calls in all of them. */
  readonly nodes: number;
  readonly runs: number;
  /** That these runs were given and gave. */
  readonly tensors: number;
};

/** What a rehearsal has counted so far. */
export type Rehearsal = {
  readonly calls: ReadonlyMap<string, Readonly<CountedCall>>;
  readonly graphs: RehearsedGraphs;
  /** Of tensors, now and at most, scratch space of kernels included. */
  readonly liveBytes: number;
  readonly peakBytes: number;
  /** Calls are counted from here on. */
  startCounting(): void;
  /** Neither calls nor scratch space are counted from here on; tensors are. */
  stopCounting(): void;
};

/**
 * Run `act` with the rehearsal in the place of the running backend, which is put back afterwards.
 * @param branches of the graphs that computations become, as on the running backend; 0 for none
 */
export async function inRehearsal<T>(
  readBack: ReadBack,
  act: (rehearsal: Rehearsal) => Promise<T>,
  branches = graphBranches(),
): Promise<T> {
  const real = tf.getBackend();
  const names = tf.getKernelsForBackend(real).map(({ kernelName }) => kernelName);
  const backend = new RehearsalBackend(readBack, branches);
  const rehearsal: Rehearsal = {
    get calls() {
      return backend.calls;
    },
    get graphs() {
      return { ...backend.graphs };
    },
    get liveBytes() {
      return backend.liveBytes;
    },
    get peakBytes() {
      return backend.peakBytes;
    },
    startCounting() {
      backend.phase = "counting";
    },
    stopCounting() {
      backend.phase = "after";
    },
  };
  tf.registerBackend(NAME, () => backend, 0);
  for (const kernelName of names) tf.registerKernel(kernelConfig(kernelName, backend));
  try {
    await tf.setBackend(NAME);
    return await act(rehearsal);
  } finally {
    await tf.setBackend(real);
    for (const kernelName of names) tf.unregisterKernel(kernelName, NAME);
    tf.removeBackend(NAME);
  }
}

function kernelConfig(kernelName: string, backend: RehearsalBackend): tf.KernelConfig {
  return {
    kernelName,
    backendName: NAME,
    kernelFunc: ({ inputs = {}, attrs = {} }) => {
      const outputs = backend.run(kernelName, inputs, attrs);
      const [only] = outputs;
      return only && outputs.length === 1 && !LISTING_KERNELS.includes(kernelName) ? only : outputs;
    },
  };
}
