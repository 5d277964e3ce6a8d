// A compiled computation's use of a loaded graph: its own names for what goes in and comes out, and the graph's halves.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { tf } from "../tensors.ts";
import type { CompiledGraph, GraphInputs, ProductFormat } from "./compiled-graph.ts";
import type { GraphRun } from "./graph-writer.ts";
import { errorOfKinds, largestError } from "./largest-error.ts";
import { DIFFERED, type LoadedGraph, loadedGraphs } from "./loaded-graphs.ts";
import { isStillInJavaScript, type NativeBackend, ownedByTensorFlow } from "./native-backend.ts";
import type { RecordedStep } from "./record-step.ts";

/** Relative L2 error of a tensor; where a value lies within rounding of a kink, one element's slope flips. */
const ERROR_MAX = 1e-3;
/** The same of all tensors of a kind together, where products are rounded to 8 bits. */
const NARROW_ERROR_MAX = 0.1;

export class GraphSession implements CompiledGraph {
  readonly #backend: NativeBackend;
  readonly #graph: LoadedGraph;
  readonly #format: ProductFormat;
  readonly #whole: Run;
  readonly #first: Run;
  readonly #second: Run;
  /** Tensors that the second half reads of the first, whose last ones they are. */
  readonly #crossingCount: number;

  /** @throws what TensorFlow says of a graph that it cannot load */
  constructor(backend: NativeBackend, recorded: RecordedStep) {
    const { whole, first, second } = recorded.runs;
    this.#backend = backend;
    this.#format = recorded.format;
    this.#whole = runOf(recorded, whole);
    this.#first = runOf(recorded, first);
    this.#second = runOf(recorded, second);
    this.#crossingCount = second.known.length;
    this.#graph = loadedGraphs(backend).take(recorded.savedModel);
  }

  get isTrusted(): boolean {
    return this.#graph.comparisonsLeft === 0;
  }

  compare(expected: tf.NamedTensorMap, found: tf.NamedTensorMap): string | null {
    const isNarrow = this.#format === "bfloat16";
    const error = isNarrow ? errorOfKinds(expected, found) : largestError(expected, found);
    const isEqual = error <= (isNarrow ? NARROW_ERROR_MAX : ERROR_MAX);
    this.#graph.comparisonsLeft = isEqual ? this.#graph.comparisonsLeft - 1 : DIFFERED;
    return isEqual ? null : `relative L2 error ${error.toExponential(1)}`;
  }

  run(inputs: GraphInputs): tf.NamedTensorMap {
    return tf.tidy(() => named(this.#whole, this.#fetch(this.#whole, inputs)));
  }

  inHalves(inputs: GraphInputs): tf.NamedTensorMap {
    const { outputs, tensors } = this.begin(inputs);
    try {
      return { ...outputs, ...this.finish(tensors, inputs) };
    } finally {
      tf.dispose(tensors);
    }
  }

  begin(inputs: GraphInputs): { outputs: tf.NamedTensorMap; tensors: tf.Tensor[] } {
    let found: tf.Tensor[] = [];
    tf.tidy(() => {
      found = this.#fetch(this.#first, inputs);
      for (const tensor of found) tf.keep(tensor);
    });
    const own = found.length - this.#crossingCount;
    return { outputs: named(this.#first, found.slice(0, own)), tensors: found.slice(own) };
  }

  /** TensorFlow takes any tensor of the graph as given, and computes nothing that only led to it. */
  finish(tensors: readonly tf.Tensor[], inputs: GraphInputs): tf.NamedTensorMap {
    return tf.tidy(() => named(this.#second, this.#fetch(this.#second, inputs, tensors)));
  }

  #fetch(
    { given, read, inputNames, outputNames }: Run,
    inputs: GraphInputs,
    known: readonly tf.Tensor[] = [],
  ): tf.Tensor[] {
    const fed = [
      ...given.map((name) => this.#owned(expectDefined(inputs.given[name], name))),
      ...read.map((index) => this.#owned(expectDefined(inputs.read[index], "what is read"))),
      ...known,
    ];
    const ids = this.#backend.getInputTensorIds(fed);
    // As the backend's own method of this name, which makes both lists of names anew in every call.
    return this.#backend.binding
      .runSavedModel(this.#graph.id, ids, inputNames, outputNames)
      .map((output) => this.#backend.createOutputTensor(output));
  }

  #owned(tensor: tf.Tensor): tf.Tensor {
    const isWaiting = isStillInJavaScript(this.#backend, tensor.dataId);
    return isWaiting ? ownedByTensorFlow(this.#backend, tensor) : tensor;
  }

  close(): void {
    loadedGraphs(this.#backend).giveBack(this.#graph);
  }
}

/** With names of the computation, and with the graph's as the addon takes them. */
type Run = {
  readonly given: readonly string[];
  /** Places of what is read. */
  readonly read: readonly number[];
  readonly inputNames: string;
  readonly outputNames: string;
  /** Of each output that is one of the computation's, its name there. */
  readonly names: readonly (string | undefined)[];
};

function runOf({ inputs, read, outputs }: RecordedStep, run: GraphRun): Run {
  const isFed = new Set(run.inputs);
  const given = [...inputs].filter(([, name]) => isFed.has(name));
  const places = read.flatMap((name, index) => (isFed.has(name) ? [index] : []));
  const fed = [...given.map(([, name]) => name), ...places.map((index) => read[index]), ...run.known];
  // One tensor may be several outputs, one after another as the run has them.
  const left = [...outputs];
  const nameOf = (output: string): string | undefined => {
    const place = left.findIndex(([, inGraph]) => inGraph === output);
    return place < 0 ? undefined : left.splice(place, 1)[0]?.[0];
  };
  return {
    ...{ given: given.map(([name]) => name), read: places },
    ...{ inputNames: fed.join(","), outputNames: run.outputs.join(",") },
    names: run.outputs.map(nameOf),
  };
}

/** Those that are outputs of the computation, under its own names. */
function named({ names }: Run, found: readonly tf.Tensor[]): tf.NamedTensorMap {
  return Object.fromEntries(
    found.flatMap((tensor, index) => {
      const name = names[index];
      return name === undefined ? [] : [[name, tensor] as const];
    }),
  );
}
