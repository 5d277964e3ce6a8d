// The seconds of kernel calls within a graph, on drawn numbers: a graph of nothing but these calls, and never the
// graph of a step. Within a graph a call costs less than by itself, because nothing crosses from JavaScript and memory
// that one node gives back is the next one's.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { CompiledGraph } from "../backend/graph/compiled-graph.ts";
import { graphCompiler } from "../backend/graph/graph-compiler.ts";
import { tf } from "../backend/tensors.ts";
import type { KernelCall } from "./kernel-call.ts";
import { drawnTensor } from "./time-call.ts";

/**
 * Runs at most, and the seconds of all of them that say enough. Together: what other threads of a process have used is
 * known to no better than the system's tick, which is as long as many a run.
 */
const RUNS_MAX = 200;
const ENOUGH_SECONDS = 0.03;
/** In a first run TensorFlow arranges the graph; where it takes so long for every call that is little. */
const LONG_SECONDS = 0.1;
const TENSORS_OF_OVERHEAD = 64;

/** What a run of a graph costs, whatever it computes. */
export type GraphOverhead = { readonly runSeconds: number; readonly tensorSeconds: number };

/** The backend must run graphs. @param seconds a clock: of the processor for backends that compute in this process */
export function graphOverhead(seconds: () => number): GraphOverhead {
  const of = (count: number): number => {
    const inputs = Object.fromEntries(
      Array.from({ length: count }, (_, index) => [`x${index}`, tf.scalar(index)]),
    );
    const compute = (): tf.NamedTensorMap =>
      Object.fromEntries(Object.entries(inputs).map(([name, x]) => [name, tf.add(x, 1)]));
    return timedGraph(inputs, compute, count, seconds);
  };
  const [one, many] = [of(1), of(TENSORS_OF_OVERHEAD)];
  // Each of them goes in and comes out.
  const tensorSeconds = Math.max(0, many - one) / (2 * (TENSORS_OF_OVERHEAD - 1));
  return { runSeconds: Math.max(0, one - 2 * tensorSeconds), tensorSeconds };
}

/**
 * Seconds of all calls together, each once.
 * @param calls that the backend can hold together
 */
export function timeInGraph(
  calls: readonly KernelCall[],
  { runSeconds, tensorSeconds }: GraphOverhead,
  seconds: () => number,
): number {
  const inputs: tf.NamedTensorMap = {};
  const namesOf = calls.map(({ inputs: forms }) =>
    Object.entries(forms).map(([name, form], place) => {
      // Calls share inputs of one form, but no call has one tensor twice: x - x would not be computed.
      const shared = `${place} ${form.dtype} [${form.shape}]`;
      inputs[shared] ??= drawnTensor(form);
      return [name, shared] as const;
    }),
  );
  const compute = (): tf.NamedTensorMap => {
    const ends = calls.flatMap((call, index) => {
      const own = (namesOf[index] ?? []).map(
        ([name, shared]) => [name, expectDefined(inputs[shared], shared)] as const,
      );
      return madeBy(call, own).map(endOf);
    });
    return { ends: tf.concat(ends) };
  };
  const taken = timedGraph(inputs, compute, calls.length, seconds);
  return Math.max(0, taken - runSeconds - tensorSeconds * (1 + Object.keys(inputs).length));
}

/** How often a call is made for it: when it is recorded, and by runs of its graph. */
export function callsInGraph(expectedSeconds: number): number {
  if (expectedSeconds >= LONG_SECONDS) return 2;
  return 2 + Math.min(RUNS_MAX, Math.ceil(ENOUGH_SECONDS / expectedSeconds));
}

function madeBy(
  { kernel, isList, attributes }: KernelCall,
  own: readonly (readonly [string, tf.Tensor])[],
): tf.Tensor[] {
  const inputs = isList ? own.map(([, tensor]) => tensor) : Object.fromEntries(own);
  // The engine types neither lists nor attributes; they are as they were recorded.
  const made: tf.Tensor | tf.Tensor[] = tf
    .engine()
    .runKernel(kernel, inputs as tf.NamedTensorMap, attributes as tf.NamedAttrMap);
  return [made].flat();
}

/** One of its numbers: enough for TensorFlow to compute all, and to be rid of it at once. */
function endOf(tensor: tf.Tensor): tf.Tensor1D {
  return tf.cast(tf.slice(tf.reshape<tf.Rank.R1>(tensor, [tensor.size]), 0, 1), "float32");
}

/** Seconds of a run of so many calls. Frees the inputs. */
function timedGraph(
  inputs: tf.NamedTensorMap,
  compute: () => tf.NamedTensorMap,
  callCount: number,
  seconds: () => number,
): number {
  let graph: CompiledGraph | undefined;
  try {
    tf.tidy(() => {
      graph = expectDefined(graphCompiler(), "a backend that runs graphs")
        .record({ given: inputs, read: [] }, [], compute)
        .load();
    });
    const loaded = expectDefined(graph, "a graph");
    /** Of each, on average. */
    const timed = (runs: number, enough: number): number => {
      const start = seconds();
      for (let run = 1; ; run += 1) {
        tf.dispose(loaded.run({ given: inputs, read: [] }));
        const passed = seconds() - start;
        if (run === runs || passed >= enough) return passed / run;
      }
    };
    const first = timed(1, 0);
    return first >= LONG_SECONDS * callCount ? first : timed(RUNS_MAX, ENOUGH_SECONDS);
  } finally {
    graph?.close();
    tf.dispose(inputs);
  }
}
