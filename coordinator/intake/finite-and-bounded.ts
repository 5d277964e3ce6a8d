// Reads an update's numbers once: are they all finite, and is their L2 norm within the plan's bound?

import { setImmediate as nextTurn } from "node:timers/promises";
import type { ParameterManifest } from "@consilium/shared/model/parameter-manifest.ts";
import { blockElements, type VectorKernel } from "../aggregation/vector-kernel.ts";
import type { TensorReader } from "../versions/tensor-reader.ts";

const blocksPerTurn = 32;
/** Sites clip in float32; their result may exceed the bound by rounding. */
export const normTolerance = 1e-5;

export type Magnitude = { readonly isFinite: boolean; readonly normL2: number };

/** Sums in manifest order, so that the same update has the same norm everywhere. */
export async function measure(
  reader: TensorReader,
  manifest: ParameterManifest,
  kernel: VectorKernel,
): Promise<Magnitude> {
  let sum = 0;
  let blocks = 0;
  for (const { name } of manifest) {
    const tensor = reader.tensors.get(name);
    if (!tensor) continue; // The manifest was matched before.
    const elements = tensor.byteLength / 4;
    for (let first = 0; first < elements; first += blockElements) {
      const count = Math.min(blockElements, elements - first);
      reader.readFloats(tensor, first, kernel.input.subarray(0, count));
      sum += kernel.sumOfSquares(count);
      blocks += 1;
      if (blocks % blocksPerTurn === 0) await nextTurn();
    }
  }
  return { isFinite: Number.isFinite(sum), normL2: Math.sqrt(sum) };
}

export function exceeds(normL2: number, bound: number): boolean {
  return normL2 > bound * (1 + normTolerance);
}
