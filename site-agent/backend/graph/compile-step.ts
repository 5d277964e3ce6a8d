// A computation of tensors that is recorded once for every form of its inputs and from then on runs as a TensorFlow graph,
// which folds, fuses and schedules what eager execution does one operation at a time. On other backends it runs as it
// is. A graph is not trusted before it has given what eager execution gives on several other inputs; one that does not is
// given up with a warning, and the computation goes on eagerly.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { tf } from "../tensors.ts";
import { SAVED_MODEL_TAG } from "./graph-writer.ts";
import { largestError } from "./largest-error.ts";
import {
  isStillInJavaScript,
  type NativeBackend,
  nativeBackend,
  ownedByTensorFlow,
} from "./native-backend.ts";
import { type RecordedStep, RecordingError, recordStep } from "./record-step.ts";

/** Calls after the recorded one in which the graph and eager execution are compared. */
const COMPARED_CALLS = 5;
/** Relative L2 error of a tensor; where a value lies within rounding of a kink, one element's slope flips. */
const ERROR_MAX = 1e-3;
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
   * Tensors that the computation takes from elsewhere, like a model's weights, under names of their own that are the same
   * in every call. Asked for only where it is compiled.
   */
  readonly reads?: () => tf.NamedTensorMap;
  readonly onWarning?: (warning: CompileWarning) => void;
};

export type CompiledStep<Outputs extends tf.NamedTensorMap> = {
  /**
   * The outputs, which belong to the caller.
   * @param inputs with what the options say it reads, every tensor that the computation does not make itself, under the
   *               same names in every call
   */
  run(inputs: tf.NamedTensorMap): Outputs;
  dispose(): void;
};

export function compileStep<Outputs extends tf.NamedTensorMap>(
  compute: (inputs: tf.NamedTensorMap) => Outputs,
  options: CompileOptions,
): CompiledStep<Outputs> {
  const eagerly = (inputs: tf.NamedTensorMap): Outputs => tf.tidy(() => compute(inputs));
  /** By form, least recently used first; null where eager execution is all there is. */
  const sessions = new Map<string, Session | null>();
  const giveUp = (form: string, code: CompileWarning["code"], reason: string): void => {
    sessions.get(form)?.close();
    sessions.set(form, null);
    options.onWarning?.({ code, step: options.name, reason });
  };

  const begin = (backend: NativeBackend, form: string, inputs: tf.NamedTensorMap): Outputs => {
    for (const [oldest, session] of sessions) {
      if (sessions.size < FORMS_MAX) break;
      session?.close();
      sessions.delete(oldest);
    }
    let recorded: RecordedStep;
    let outputs: Outputs;
    try {
      [recorded, outputs] = recordedEagerly(backend, inputs, compute);
    } catch (error) {
      if (!(error instanceof RecordingError)) throw error;
      giveUp(form, error.code, error.message);
      return eagerly(inputs);
    }
    try {
      sessions.set(form, new Session(backend, recorded));
    } catch (error) {
      giveUp(form, "graph.not-loaded", error instanceof Error ? error.message : String(error));
    }
    return outputs;
  };

  const compare = (session: Session, form: string, inputs: tf.NamedTensorMap): Outputs => {
    const expected = eagerly(inputs);
    const found = session.run(inputs);
    const error = largestError(expected, found);
    tf.dispose(found);
    if (error > ERROR_MAX) giveUp(form, "graph.differs", `relative L2 error ${error.toExponential(1)}`);
    else session.comparisonsLeft -= 1;
    return expected;
  };

  return {
    run(given) {
      const backend = nativeBackend();
      if (!backend) return eagerly(given);
      const inputs = { ...options.reads?.(), ...given };
      const form = formOf(inputs);
      const session = sessions.get(form);
      if (session === undefined) return begin(backend, form, inputs);
      sessions.delete(form);
      sessions.set(form, session);
      if (session === null) return eagerly(inputs);
      if (session.comparisonsLeft > 0) return compare(session, form, inputs);
      return session.run(inputs) as Outputs; // Under the names that the computation gave.
    },
    dispose() {
      for (const session of sessions.values()) session?.close();
      sessions.clear();
    },
  };
}

/** A graph that TensorFlow has loaded. */
class Session {
  comparisonsLeft = COMPARED_CALLS;
  readonly #backend: NativeBackend;
  readonly #id: number;
  readonly #inputs: readonly string[];
  readonly #infos: readonly { readonly name: string }[];
  readonly #outputs: readonly string[];
  readonly #outputsInGraph: readonly string[];

  /** @throws what TensorFlow says of a graph that it cannot load */
  constructor(backend: NativeBackend, { savedModel, inputs, outputs }: RecordedStep) {
    this.#backend = backend;
    this.#inputs = [...inputs.keys()];
    this.#infos = [...inputs.values()].map((name) => ({ name }));
    this.#outputs = [...outputs.keys()];
    this.#outputsInGraph = [...outputs.values()];
    // TensorFlow reads a folder and nothing else. It is for this process alone, and gone when it has been read.
    const folder = mkdtempSync(join(tmpdir(), "consilium-graph-"));
    try {
      writeFileSync(join(folder, "saved_model.pb"), savedModel);
      this.#id = backend.loadSavedModelMetaGraph(folder, SAVED_MODEL_TAG);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  run(inputs: tf.NamedTensorMap): tf.NamedTensorMap {
    return tf.tidy(() => {
      const given = this.#inputs.map((name) => {
        const tensor = expectDefined(inputs[name], `input ${name}`);
        return isStillInJavaScript(this.#backend, tensor.dataId)
          ? ownedByTensorFlow(this.#backend, tensor)
          : tensor;
      });
      const found = this.#backend.runSavedModel(this.#id, given, this.#infos, this.#outputsInGraph);
      return Object.fromEntries(
        this.#outputs.map((name, index) => [name, expectDefined(found[index], `output ${name}`)]),
      );
    });
  }

  close(): void {
    this.#backend.deleteSavedModel(this.#id);
  }
}

function recordedEagerly<Outputs extends tf.NamedTensorMap>(
  backend: NativeBackend,
  inputs: tf.NamedTensorMap,
  compute: (inputs: tf.NamedTensorMap) => Outputs,
): [RecordedStep, Outputs] {
  let recorded: RecordedStep | undefined;
  const outputs = tf.tidy(() => {
    const made = recordStep(backend, inputs, () => compute(inputs));
    recorded = made.recorded;
    return made.outputs;
  });
  return [expectDefined(recorded, "a recording"), outputs];
}

/** A graph has fixed shapes. */
function formOf(inputs: tf.NamedTensorMap): string {
  return Object.entries(inputs)
    .map(([name, { dtype, shape }]) => `${name} ${dtype} [${shape}]`)
    .join("; ");
}
