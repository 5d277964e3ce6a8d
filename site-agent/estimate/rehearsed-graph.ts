// A compiled computation in a rehearsal: which kernels its graph runs, whole and in halves, and how much memory these take
// at once, from what was traced while the computation was recorded. No number is computed here either.

import type { CompiledGraph, GraphInputs } from "../backend/graph/compiled-graph.ts";
import { tf } from "../backend/tensors.ts";
import { bytesOf, type KernelCall, type TensorForm } from "./kernel-call.ts";

/** A kernel call of a recorded computation. Tensors are the backend's own objects for what they hold. */
export type TracedCall = {
  readonly call: KernelCall;
  readonly inputs: readonly object[];
  readonly outputs: readonly object[];
};

/** What one run of a graph does, all of it or a half. */
export type GraphRun = {
  readonly calls: readonly KernelCall[];
  /** Of what the graph makes and frees on its way, at most; what it gives included. */
  readonly peakBytes: number;
  /** That go in and come out. */
  readonly tensorCount: number;
};

/** What a rehearsed graph needs of the backend. */
export type GraphStage = {
  runGraph(run: GraphRun): void;
  /** A new tensor, of which nothing is kept but its form. */
  make(form: TensorForm): tf.TensorInfo;
};

export type TracedComputation = {
  readonly calls: readonly TracedCall[];
  readonly inputs: GraphInputs;
  /** Names of inputs that the second half alone has. */
  readonly later: readonly string[];
  readonly outputs: tf.NamedTensorMap;
};

export class RehearsedGraph implements CompiledGraph {
  /** No rehearsed computation gives another answer than itself. */
  readonly isTrusted = true;
  readonly #stage: GraphStage;
  readonly #forms: ReadonlyMap<string, TensorForm>;
  readonly #halves: Halves;

  constructor(stage: GraphStage, computation: TracedComputation) {
    this.#stage = stage;
    this.#forms = new Map(
      Object.entries(computation.outputs).map(([name, { shape, dtype }]) => [name, { shape, dtype }]),
    );
    this.#halves = halvesOf(computation);
  }

  compare(): null {
    return null;
  }

  run(): tf.NamedTensorMap {
    this.#stage.runGraph(this.#halves.whole);
    return this.#given([...this.#forms.keys()]);
  }

  inHalves(): tf.NamedTensorMap {
    return this.run();
  }

  begin(): { outputs: tf.NamedTensorMap; tensors: tf.Tensor[] } {
    const { first, crossing } = this.#halves;
    this.#stage.runGraph(first.run);
    const [outputs, tensors] = [this.#given(first.names), crossing.map((form) => this.#tensor(form))];
    for (const tensor of [...Object.values(outputs), ...tensors]) tf.keep(tensor);
    return { outputs, tensors };
  }

  finish(): tf.NamedTensorMap {
    const { second } = this.#halves;
    this.#stage.runGraph(second.run);
    return this.#given(second.names);
  }

  close(): void {}

  #given(names: readonly string[]): tf.NamedTensorMap {
    return Object.fromEntries(
      names.map((name) => [name, this.#tensor(this.#forms.get(name) ?? { shape: [], dtype: "float32" })]),
    );
  }

  #tensor(form: TensorForm): tf.Tensor {
    return tf.engine().makeTensorFromTensorInfo(this.#stage.make(form));
  }
}

type Half = { readonly names: readonly string[]; readonly run: GraphRun };

type Halves = {
  readonly whole: GraphRun;
  readonly first: Half;
  readonly second: Half;
  /** Of what the second half reads of the first. */
  readonly crossing: readonly TensorForm[];
};

/** As `GraphWriter.runs` has them. */
function halvesOf({ calls, inputs, later, outputs }: TracedComputation): Halves {
  const isLater = new Set(later.flatMap((name) => inputs.given[name]?.dataId ?? []));
  const [early, late]: [TracedCall[], TracedCall[]] = [[], []];
  const formOf = new Map<object, TensorForm>();
  for (const traced of calls) {
    const waits = traced.inputs.some((data) => isLater.has(data));
    (waits ? late : early).push(traced);
    traced.outputs.forEach((data, index) => {
      if (waits) isLater.add(data);
      const form = traced.call.outputs[index];
      if (form) formOf.set(data, form);
    });
  }
  const given = Object.entries(outputs).map(([name, { dataId }]) => ({ name, dataId }));
  const [first, second] = [
    given.filter(({ dataId }) => !isLater.has(dataId)),
    given.filter(({ dataId }) => isLater.has(dataId)),
  ];
  const inSecond = needed(late, dataOf(second));
  const read = new Set(inSecond.flatMap((call) => call.inputs));
  const crossing = [...read].filter((data) => formOf.has(data) && !isLater.has(data));
  const kept = [...dataOf(first), ...crossing];
  const comesIn = new Set([...dataOf([...Object.values(inputs.given), ...inputs.read]), ...formOf.keys()]);
  return {
    whole: runOf(needed(calls, dataOf(given)), dataOf(given), comesIn),
    first: {
      names: first.map(({ name }) => name),
      run: runOf(needed(early, kept), kept, comesIn),
    },
    second: {
      names: second.map(({ name }) => name),
      run: runOf(inSecond, dataOf(second), comesIn),
    },
    crossing: crossing.flatMap((data) => formOf.get(data) ?? []),
  };
}

function dataOf(tensors: readonly { readonly dataId: object }[]): object[] {
  return tensors.map(({ dataId }) => dataId);
}

/** @param comesIn what is no constant: where the run does not make it itself, it is given */
function runOf(
  traced: readonly TracedCall[],
  kept: readonly object[],
  comesIn: ReadonlySet<object>,
): GraphRun {
  const made = new Set(traced.flatMap((call) => call.outputs));
  const read = new Set(traced.flatMap((call) => call.inputs));
  const fed = [...read].filter((data) => comesIn.has(data) && !made.has(data));
  return {
    calls: traced.map(({ call }) => call),
    peakBytes: peakBytes(traced, new Set(kept)),
    tensorCount: fed.length + kept.length,
  };
}

/** Those that lead to what is wanted. */
function needed(traced: readonly TracedCall[], wanted: readonly object[]): TracedCall[] {
  const asked = new Set(wanted);
  const found: TracedCall[] = [];
  for (const call of traced.toReversed()) {
    if (!call.outputs.some((data) => asked.has(data))) continue;
    found.push(call);
    for (const data of call.inputs) asked.add(data);
  }
  return found.reverse();
}

/** In the order of the calls, where everything is freed after its last reader and what is kept never. */
function peakBytes(traced: readonly TracedCall[], kept: ReadonlySet<object>): number {
  const lastUse = new Map<object, number>();
  traced.forEach(({ inputs, outputs }, index) => {
    for (const data of [...inputs, ...outputs]) lastUse.set(data, index);
  });
  const sizes = new Map<object, number>();
  let [live, peak] = [0, 0];
  traced.forEach(({ call, inputs, outputs }, index) => {
    outputs.forEach((data, place) => {
      const form = call.outputs[place];
      sizes.set(data, form ? bytesOf(form) : 0);
      live += sizes.get(data) ?? 0;
    });
    peak = Math.max(peak, live);
    for (const data of new Set([...inputs, ...outputs])) {
      if (lastUse.get(data) !== index || kept.has(data)) continue;
      live -= sizes.get(data) ?? 0;
    }
  });
  return peak;
}
