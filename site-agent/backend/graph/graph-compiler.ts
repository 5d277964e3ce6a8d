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

/** Parts of a batch that are computed at the same time; none where no graph is run. */
export function graphBranches(): number {
  return graphCompiler()?.branches ?? 0;
}

/** On two processors a step of SAM 2 takes .7 of its time in two branches; more than two were not tried. */
const PROCESSOR_BRANCHES = 2;

function tensorFlowCompiler(backend: NativeBackend): GraphCompiler {
  return {
    branches: backend.isUsingGpuDevice ? 1 : PROCESSOR_BRANCHES,
    record(inputs, later, compute) {
      const { outputs, recorded } = recordStep(
        backend,
        { inputs: inputs.given, read: inputs.read, later, format: productFormat(backend) },
        compute,
      );
      return { outputs, load: () => new GraphSession(backend, recorded) };
    },
  };
}
