// Whether the running backend runs graphs, and by what they are made for it.

import { tf } from "../tensors.ts";
import type { GraphCompiler } from "./compiled-graph.ts";
import { GraphSession } from "./graph-session.ts";
import { type NativeBackend, nativeBackend } from "./native-backend.ts";
import { productFormat } from "./product-format.ts";
import { recordStep } from "./record-step.ts";

/** A backend that is not TensorFlow's and brings its own compiler. */
export type CompilingBackend = { readonly graphCompiler: GraphCompiler | null };

/** Null where computations run as they are, one operation at a time. */
export function graphCompiler(): GraphCompiler | null {
  const native = nativeBackend();
  if (native) return tensorFlowCompiler(native);
  const backend = tf.backend() as Partial<CompilingBackend>; // Of any kind.
  return backend.graphCompiler ?? null;
}

/** Models arrange some computations in another way there. */
export function runsGraphs(): boolean {
  return graphCompiler() !== null;
}

function tensorFlowCompiler(backend: NativeBackend): GraphCompiler {
  return {
    record(inputs, later, compute) {
      const { outputs, recorded } = recordStep(
        backend,
        { inputs, later, format: productFormat(backend) },
        compute,
      );
      return { outputs, load: () => new GraphSession(backend, recorded) };
    },
  };
}
