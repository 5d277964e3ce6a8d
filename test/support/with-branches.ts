// The way models arrange their computations where graphs are run, on a backend that runs none.

import type { GraphCompiler } from "../../site-agent/backend/graph/compiled-graph.ts";
import { tf } from "../../site-agent/backend/tensors.ts";

/** What the running backend would do if its graphs had so many branches. Nothing is recorded: it must not compile. */
export function withBranches(branches: number, act: () => void): void {
  const backend = tf.backend() as { graphCompiler?: GraphCompiler }; // As a compiling backend has it.
  const record = (): never => {
    throw new Error("nothing is compiled here");
  };
  backend.graphCompiler = { branches, record };
  try {
    act();
  } finally {
    delete backend.graphCompiler;
  }
}
