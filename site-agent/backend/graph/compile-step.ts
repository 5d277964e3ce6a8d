// A computation of tensors that is recorded once for every form of its inputs and from then on runs as a TensorFlow graph,
// which folds, fuses and schedules what eager execution does one operation at a time. On other backends it runs as it
// is. A graph is not trusted before it has given what eager execution gives on several other inputs, in this step or in an
// earlier one of this process; one that does not is given up with a warning, and the computation goes on eagerly.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { tf } from "../tensors.ts";
import {
  type CompiledGraph,
  type GraphCompiler,
  type GraphInputs,
  RecordingError,
} from "./compiled-graph.ts";
import { graphCompiler } from "./graph-compiler.ts";

/** Forms of inputs that are kept at once; the one that was not used for longest goes. */
const FORMS_MAX = 8;

export type CompileWarning = {
  readonly code: "graph.not-recorded" | "graph.not-loaded" | "graph.differs";
  readonly step: string;
  readonly reason: string;
};

export type CompileOptions = {
  /** Of the computation, in warnings. */
  readonly name: string;
  /**
   * Tensors that the computation takes from elsewhere, like a model's weights, in the same order and of the same shapes in
   * every call. Asked for only where it is compiled.
   */
  readonly reads?: () => readonly tf.Tensor[];
  /** Names of inputs that are not known yet when `begin` computes what does not depend on them. */
  readonly later?: readonly string[];
  readonly onWarning?: (warning: CompileWarning) => void;
};

export type CompiledStep<Outputs extends tf.NamedTensorMap> = {
  /**
   * The outputs, which belong to the caller.
   * @param inputs of the computation; with what the options say it reads, every tensor that it does not make itself
   */
  run(inputs: tf.NamedTensorMap): Outputs;
  /**
   * The outputs that depend on no later input, and what the others need of what was computed for them. Null where there is
   * no graph that is trusted: nothing was computed then.
   * @param inputs without the later ones
   */
  begin(inputs: tf.NamedTensorMap): { readonly outputs: Partial<Outputs>; readonly begun: BegunStep } | null;
  /** The outputs that depend on later inputs; all of them where the graph is gone. @param inputs as for `run` */
  finish(begun: BegunStep, inputs: tf.NamedTensorMap): Partial<Outputs>;
  dispose(): void;
};

/** The tensors belong to whoever began. */
export type BegunStep = {
  readonly form: string;
  /** Of the graph that they are of: another one has others. */
  readonly graph: object;
  readonly tensors: readonly tf.Tensor[];
};

export function compileStep<Outputs extends tf.NamedTensorMap>(
  compute: (inputs: tf.NamedTensorMap) => Outputs,
  options: CompileOptions,
): CompiledStep<Outputs> {
  const { later = [] } = options;
  const eagerly = (given: tf.NamedTensorMap): Outputs => tf.tidy(() => compute(given));
  const inputsOf = (given: tf.NamedTensorMap): GraphInputs => ({ given, read: options.reads?.() ?? [] });
  /** By form, least recently used first; null where eager execution is all there is. */
  const known = new Map<string, Known | null>();
  const giveUp = (form: string, code: CompileWarning["code"], reason: string): void => {
    known.get(form)?.graph.close();
    known.set(form, null);
    options.onWarning?.({ code, step: options.name, reason });
  };

  const record = (compiler: GraphCompiler, form: string, given: tf.NamedTensorMap): Outputs => {
    for (const [oldest, one] of known) {
      if (known.size < FORMS_MAX) break;
      one?.graph.close();
      known.delete(oldest);
    }
    let recorded: Recorded<Outputs>;
    try {
      recorded = recordedEagerly(compiler, inputsOf(given), later, compute);
    } catch (error) {
      if (!(error instanceof RecordingError)) throw error;
      giveUp(form, error.code, error.message);
      return eagerly(given);
    }
    try {
      known.set(form, { graph: recorded.load(), formBefore: formOf(withoutNames(given, later)) });
    } catch (error) {
      giveUp(form, "graph.not-loaded", error instanceof Error ? error.message : String(error));
    }
    return recorded.outputs;
  };

  const compare = (graph: CompiledGraph, form: string, given: tf.NamedTensorMap): Outputs => {
    const expected = eagerly(given);
    const inputs = inputsOf(given);
    const found = later.length === 0 ? graph.run(inputs) : graph.inHalves(inputs);
    const difference = graph.compare(expected, found);
    tf.dispose(found);
    if (difference !== null) giveUp(form, "graph.differs", difference);
    return expected;
  };

  const run = (given: tf.NamedTensorMap): Outputs => {
    const compiler = graphCompiler();
    if (!compiler) return eagerly(given);
    const form = formOf(given);
    const found = known.get(form);
    if (found === undefined) return record(compiler, form, given);
    putLast(known, form, found);
    if (found === null) return eagerly(given);
    if (!found.graph.isTrusted) return compare(found.graph, form, given);
    return found.graph.run(inputsOf(given)) as Outputs; // Under the names that the computation gave.
  };

  return {
    run,
    begin(given) {
      if (!graphCompiler()) return null;
      const formBefore = formOf(given);
      for (const [form, one] of known) {
        if (one?.formBefore !== formBefore || !one.graph.isTrusted) continue;
        putLast(known, form, one);
        const { outputs, tensors } = one.graph.begin(inputsOf(given));
        return { outputs: outputs as Partial<Outputs>, begun: { form, graph: one.graph, tensors } }; // Under the computation's names.
      }
      return null;
    },
    finish({ form, graph, tensors }, given) {
      const found = known.get(form);
      if (!found || found.graph !== graph) return run(given);
      return found.graph.finish(tensors, inputsOf(given)) as Partial<Outputs>; // As above.
    },
    dispose() {
      for (const one of known.values()) one?.graph.close();
      known.clear();
    },
  };
}

type Known = {
  readonly graph: CompiledGraph;
  /** Of the inputs that are not later. */
  readonly formBefore: string;
};

/** As the one that was used last. */
function putLast<Value>(entries: Map<string, Value>, key: string, value: Value): void {
  entries.delete(key);
  entries.set(key, value);
}

type Recorded<Outputs> = { readonly outputs: Outputs; readonly load: () => CompiledGraph };

/** What the computation gave belongs to the scope around this call. */
function recordedEagerly<Outputs extends tf.NamedTensorMap>(
  compiler: GraphCompiler,
  inputs: GraphInputs,
  later: readonly string[],
  compute: (inputs: tf.NamedTensorMap) => Outputs,
): Recorded<Outputs> {
  let load: Recorded<Outputs>["load"] | undefined;
  const outputs = tf.tidy(() => {
    const recorded = compiler.record(inputs, later, () => compute(inputs.given));
    load = recorded.load;
    return recorded.outputs;
  });
  return { outputs, load: expectDefined(load, "a recording") };
}

function withoutNames(tensors: tf.NamedTensorMap, names: readonly string[]): tf.NamedTensorMap {
  return Object.fromEntries(Object.entries(tensors).filter(([name]) => !names.includes(name)));
}

/** A graph has fixed shapes. */
function formOf(inputs: tf.NamedTensorMap): string {
  return Object.entries(inputs)
    .map(([name, { dtype, shape }]) => `${name} ${dtype} [${shape}]`)
    .join("; ");
}
