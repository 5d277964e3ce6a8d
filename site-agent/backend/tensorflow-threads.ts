// How TensorFlow shares processors, which it reads from the environment when it starts.

/**
 * Branches of a graph run at once, and an operation within one has what processors they leave: of two its own alone. A
 * step of SAM 2 on two takes .7 of the time that it takes where every operation asks for both. For more than two it is
 * inferred.
 */
export function tensorFlowThreads(processors: number): Record<string, string> {
  return {
    TF_NUM_INTEROP_THREADS: String(processors),
    [OPERATION_THREADS]: String(Math.max(1, processors - 1)),
  };
}

const OPERATION_THREADS = "TF_NUM_INTRAOP_THREADS";

/** How many processors an operation has, for operations of our own: as the environment says, and one at least. */
export function operationThreads(environment: NodeJS.ProcessEnv, processors: number): number {
  const wished = Number(environment[OPERATION_THREADS]);
  return Number.isInteger(wished) && wished > 0 ? Math.min(wished, processors) : 1;
}
