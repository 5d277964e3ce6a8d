// Whether a step fits: into what the backend can hold, and into what is free on the machine. Pure: the numbers are given.

import { type BackendName, GPU_BACKENDS } from "../backend/backend-report.ts";
import { HEAP_BYTES_BUDGET } from "../backend/wasm-kernels/wasm-heap.ts";
import type { StepEstimate } from "./step-estimate.ts";

export type MemoryBound = {
  readonly of: "tensors on wasm" | "memory of the process";
  readonly neededBytes: number;
  readonly availableBytes: number;
};

/** How much a backend can hold beside the machine's bound; null where this program does not know. */
export function tensorBytesMax(backend: BackendName): number | null {
  return backend === "wasm" ? HEAP_BYTES_BUDGET : null;
}

/** The bounds that a step goes beyond; none where it fits. */
export function exceededBounds(estimate: StepEstimate, availableBytes: number): MemoryBound[] {
  const { backend, tensorBytes, memoryBytes, hostBytes } = estimate;
  const bounds: MemoryBound[] = [];
  const most = tensorBytesMax(backend);
  if (most !== null && tensorBytes > most)
    bounds.push({ of: "tensors on wasm", neededBytes: tensorBytes, availableBytes: most });
  // A GPU's tensors do not lie in the machine's memory; how much the GPU has is not known here.
  const neededBytes = GPU_BACKENDS.includes(backend) ? hostBytes : memoryBytes;
  if (neededBytes > availableBytes) bounds.push({ of: "memory of the process", neededBytes, availableBytes });
  return bounds;
}

export function boundText({ of, neededBytes, availableBytes }: MemoryBound): string {
  return `${of}: ${mebibytes(neededBytes)} MiB needed, ${mebibytes(availableBytes)} MiB available`;
}

export function mebibytes(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20);
}
