// Intensities made comparable between scanners: per volume for MR, with the study's own window for CT. Nothing here
// looks at geometry or labels.

import { expectDefined, unreachable } from "@consilium/shared/base/assert.ts";
import type { Normalisation } from "@consilium/shared/model/preprocessing-plan.ts";
import { percentiles } from "../data/percentile.ts";

/** Deviations below this are read as a constant volume, as in nnU-Net. */
const STD_MIN = 1e-8;
/** Shares of voxels clipped at either end: real maxima of MR volumes range from 850 to 1.7 million. */
const CLIP_LOW = 0.005;
const CLIP_HIGH = 0.995;

/** @returns new values of mean 0 and deviation 1 over the volume (zscore) or over the study's foreground (ct). */
export function normalise(voxels: Float32Array, normalisation: Normalisation): Float32Array {
  if (normalisation.kind === "ct") return rescaled(voxels, normalisation);
  if (normalisation.kind === "zscore") {
    const [low, high] = percentiles(voxels, [CLIP_LOW, CLIP_HIGH]);
    return zscore(voxels, { low: expectDefined(low, "percentile"), high: expectDefined(high, "percentile") });
  }
  return unreachable(normalisation, "normalisation");
}

/** Clip, then subtract the mean and divide by the population deviation of the clipped values. */
export function zscore(voxels: Float32Array, { low, high }: { low: number; high: number }): Float32Array {
  let sum = 0;
  for (let index = 0; index < voxels.length; index += 1) sum += clipped(voxels[index] ?? 0, low, high);
  const mean = sum / voxels.length;
  let squares = 0;
  for (let index = 0; index < voxels.length; index += 1) {
    const deviation = clipped(voxels[index] ?? 0, low, high) - mean;
    squares += deviation * deviation;
  }
  return rescaled(voxels, { low, high, mean, std: Math.sqrt(squares / voxels.length) });
}

interface Window {
  readonly low: number;
  readonly high: number;
  readonly mean: number;
  readonly std: number;
}

function rescaled(voxels: Float32Array, { low, high, mean, std }: Window): Float32Array {
  const scale = Math.max(std, STD_MIN);
  const output = new Float32Array(voxels.length);
  for (let index = 0; index < voxels.length; index += 1) {
    output[index] = (clipped(voxels[index] ?? 0, low, high) - mean) / scale;
  }
  return output;
}

function clipped(value: number, low: number, high: number): number {
  return Math.max(low, Math.min(high, value));
}
