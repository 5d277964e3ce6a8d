// Graphs that TensorFlow has loaded in this process. A computation that is compiled again, as every round compiles that of
// the one before, gives the same graph again: it is neither loaded nor compared a second time.

import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SAVED_MODEL_TAG } from "./graph-writer.ts";
import type { NativeBackend } from "./native-backend.ts";

/** Calls after the recorded one in which the graph and eager execution are compared. */
const COMPARED_CALLS = 5;
export const DIFFERED = Number.POSITIVE_INFINITY;
/** Graphs that nobody uses; the one that was not used for longest goes. */
const UNUSED_MAX = 16;

export type LoadedGraph = {
  /** For the addon. */
  readonly id: number;
  readonly sha256: string;
  /** Until it is trusted, which one that once differed never is. */
  comparisonsLeft: number;
  users: number;
};

class LoadedGraphs {
  readonly #backend: NativeBackend;
  /** By digest, least recently used first. */
  readonly #graphs = new Map<string, LoadedGraph>();

  constructor(backend: NativeBackend) {
    this.#backend = backend;
  }

  /** To be given back. @throws what TensorFlow says of a graph that it cannot load */
  take(savedModel: Uint8Array): LoadedGraph {
    const sha256 = createHash("sha256").update(savedModel).digest("hex");
    const graph = this.#graphs.get(sha256) ?? {
      ...{ id: this.#load(savedModel), sha256 },
      ...{ comparisonsLeft: COMPARED_CALLS, users: 0 },
    };
    graph.users += 1;
    this.#graphs.delete(sha256);
    this.#graphs.set(sha256, graph);
    return graph;
  }

  giveBack(graph: LoadedGraph): void {
    graph.users -= 1;
    if (graph.users === 0 && graph.comparisonsLeft === DIFFERED) this.#unload(graph);
    const unused = [...this.#graphs.values()].filter(({ users }) => users === 0);
    for (const oldest of unused.slice(0, Math.max(0, unused.length - UNUSED_MAX))) this.#unload(oldest);
  }

  #load(savedModel: Uint8Array): number {
    // TensorFlow reads a folder and nothing else. It is for this process alone, and gone when it has been read.
    const folder = mkdtempSync(join(tmpdir(), "consilium-graph-"));
    try {
      writeFileSync(join(folder, "saved_model.pb"), savedModel);
      return this.#backend.loadSavedModelMetaGraph(folder, SAVED_MODEL_TAG);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }

  #unload({ id, sha256 }: LoadedGraph): void {
    this.#graphs.delete(sha256);
    this.#backend.deleteSavedModel(id);
  }
}

const graphsOf = new WeakMap<NativeBackend, LoadedGraphs>();

/** All of a backend. */
export function loadedGraphs(backend: NativeBackend): LoadedGraphs {
  const graphs = graphsOf.get(backend) ?? new LoadedGraphs(backend);
  graphsOf.set(backend, graphs);
  return graphs;
}
