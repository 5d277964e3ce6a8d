// A compiled computation's use of a loaded graph: its own names for what goes in and comes out, and the graph's halves.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { tf } from "../tensors.ts";
import type { CompiledGraph, ProductFormat } from "./compiled-graph.ts";
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
  readonly #inputs: RecordedStep["inputs"];
  readonly #outputs: RecordedStep["outputs"];
  readonly #halves: RecordedStep["halves"];
  readonly #format: ProductFormat;

  /** @throws what TensorFlow says of a graph that it cannot load */
  constructor(backend: NativeBackend, { savedModel, inputs, outputs, halves, format }: RecordedStep) {
    this.#backend = backend;
    this.#inputs = inputs;
    this.#outputs = outputs;
    this.#halves = halves;
    this.#format = format;
    this.#graph = loadedGraphs(backend).take(savedModel);
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

  run(inputs: tf.NamedTensorMap): tf.NamedTensorMap {
    return tf.tidy(() => this.#named(this.#fetch(this.#fed(inputs), [...this.#outputs.values()])));
  }

  inHalves(inputs: tf.NamedTensorMap): tf.NamedTensorMap {
    const { outputs, tensors } = this.begin(inputs);
    try {
      return { ...outputs, ...this.finish(tensors, inputs) };
    } finally {
      tf.dispose(tensors);
    }
  }

  /** TensorFlow computes what is asked for and nothing else. */
  begin(inputs: tf.NamedTensorMap): { outputs: tf.NamedTensorMap; tensors: tf.Tensor[] } {
    const { first, crossing } = this.#halves;
    const [outputs, tensors] = [{} as tf.NamedTensorMap, [] as tf.Tensor[]];
    tf.tidy(() => {
      const found = this.#fetch(this.#fed(inputs), [...first, ...crossing]);
      Object.assign(outputs, this.#named(found));
      tensors.push(...crossing.map((name) => expectDefined(found.get(name), name)));
      for (const tensor of [...Object.values(outputs), ...tensors]) tf.keep(tensor);
    });
    return { outputs, tensors };
  }

  /** TensorFlow takes any tensor of the graph as given, and computes nothing that only led to it. */
  finish(tensors: readonly tf.Tensor[], inputs: tf.NamedTensorMap): tf.NamedTensorMap {
    const { second, crossing } = this.#halves;
    return tf.tidy(() => {
      const known = crossing.map((name, index) => [name, expectDefined(tensors[index], name)] as const);
      return this.#named(this.#fetch(new Map([...this.#fed(inputs), ...known]), second));
    });
  }

  /** By names in the graph. */
  #fed(inputs: tf.NamedTensorMap): Map<string, tf.Tensor> {
    const given = Object.entries(inputs).map(([name, tensor]) => {
      const isWaiting = isStillInJavaScript(this.#backend, tensor.dataId);
      return [
        expectDefined(this.#inputs.get(name), `input ${name}`),
        isWaiting ? ownedByTensorFlow(this.#backend, tensor) : tensor,
      ] as const;
    });
    return new Map(given);
  }

  #fetch(fed: ReadonlyMap<string, tf.Tensor>, names: readonly string[]): Map<string, tf.Tensor> {
    const infos = [...fed.keys()].map((name) => ({ name }));
    const found = this.#backend.runSavedModel(this.#graph.id, [...fed.values()], infos, names);
    return new Map(names.map((name, index) => [name, expectDefined(found[index], name)]));
  }

  /** Those that are outputs of the computation, under its own names. */
  #named(found: ReadonlyMap<string, tf.Tensor>): tf.NamedTensorMap {
    const named = [...this.#outputs].flatMap(([name, inGraph]) => {
      const tensor = found.get(inGraph);
      return tensor ? [[name, tensor] as const] : [];
    });
    return Object.fromEntries(named);
  }

  close(): void {
    loadedGraphs(this.#backend).giveBack(this.#graph);
  }
}
