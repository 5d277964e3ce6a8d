// Resampling of label maps: nearest, or nnU-Net's way, which interpolates the map of every label linearly and gives a
// voxel to the highest label whose share reaches one half. All labels are handled in one pass.

import { assert } from "@consilium/shared/base/assert.ts";
import type { Vec3 } from "../data/affine.ts";
import { type LinearTaps, linearTaps, samplePositions } from "./resample.ts";

export interface LabelResampling {
  readonly from: Vec3;
  readonly to: Vec3;
  /** Per axis: 0 takes the nearest voxel, 1 weighs both neighbours. */
  readonly orders: readonly [0 | 1, 0 | 1, 0 | 1];
}

/** @returns `to[0] * to[1] * to[2]` labels, half-pixel convention. */
export function resampleLabels(labels: Uint8Array, { from, to, orders }: LabelResampling): Uint8Array {
  assert(labels.length === from[0] * from[1] * from[2], "the labels fill their shape");
  if (from.every((size, axis) => size === to[axis])) return labels;
  const taps = (axis: 0 | 1 | 2): LinearTaps =>
    linearTaps(samplePositions(from[axis], to[axis], "halfPixel"), from[axis], orders[axis]);
  const [tapsI, tapsJ, tapsK] = [taps(0), taps(1), taps(2)];
  const output = new Uint8Array(to[0] * to[1] * to[2]);
  for (let k = 0; k < to[2]; k += 1) {
    for (let j = 0; j < to[1]; j += 1) {
      const rows = rowCorners({ from, tapsJ, tapsK }, j, k);
      resampleRow({ labels, tapsI, rows, output, start: (k * to[1] + j) * to[0] });
    }
  }
  return output;
}

/** Where the four neighbouring rows of an output row begin, and what each weighs. */
interface RowCorners {
  readonly starts: readonly [number, number, number, number];
  readonly weights: readonly [number, number, number, number];
}

function rowCorners(
  { from, tapsJ, tapsK }: { from: Vec3; tapsJ: LinearTaps; tapsK: LinearTaps },
  j: number,
  k: number,
): RowCorners {
  const [j0, j1] = [tapsJ.first[j] ?? 0, tapsJ.second[j] ?? 0];
  const [k0, k1] = [(tapsK.first[k] ?? 0) * from[1], (tapsK.second[k] ?? 0) * from[1]];
  const weightJ = tapsJ.weight[j] ?? 0;
  const weightK = tapsK.weight[k] ?? 0;
  return {
    starts: [(k0 + j0) * from[0], (k0 + j1) * from[0], (k1 + j0) * from[0], (k1 + j1) * from[0]],
    weights: [
      (1 - weightJ) * (1 - weightK),
      weightJ * (1 - weightK),
      (1 - weightJ) * weightK,
      weightJ * weightK,
    ],
  };
}

interface RowTask {
  readonly labels: Uint8Array;
  readonly tapsI: LinearTaps;
  readonly rows: RowCorners;
  readonly output: Uint8Array;
  readonly start: number;
}

function resampleRow({ labels, tapsI, rows, output, start }: RowTask): void {
  const [a, b, c, d] = rows.starts;
  const corners = new Uint8Array(8);
  for (let i = 0; i < tapsI.weight.length; i += 1) {
    const left = tapsI.first[i] ?? 0;
    const right = tapsI.second[i] ?? 0;
    const label = labels[a + left] ?? 0;
    corners[0] = label;
    corners[1] = labels[a + right] ?? 0;
    corners[2] = labels[b + left] ?? 0;
    corners[3] = labels[b + right] ?? 0;
    corners[4] = labels[c + left] ?? 0;
    corners[5] = labels[c + right] ?? 0;
    corners[6] = labels[d + left] ?? 0;
    corners[7] = labels[d + right] ?? 0;
    output[start + i] = isUniform(corners, label)
      ? label
      : majority(corners, rows.weights, tapsI.weight[i] ?? 0);
  }
}

function isUniform(corners: Uint8Array, label: number): boolean {
  for (let corner = 1; corner < 8; corner += 1) if (corners[corner] !== label) return false;
  return true;
}

/** The highest label with at least half of the weight, else background. */
function majority(corners: Uint8Array, rowWeights: RowCorners["weights"], weightI: number): number {
  let winner = 0;
  for (let candidate = 0; candidate < 8; candidate += 1) {
    const label = corners[candidate] ?? 0;
    if (label <= winner) continue;
    let share = 0;
    for (let row = 0; row < 4; row += 1) {
      const weight = rowWeights[row] ?? 0;
      if (corners[2 * row] === label) share += weight * (1 - weightI);
      if (corners[2 * row + 1] === label) share += weight * weightI;
    }
    if (share >= 0.5) winner = label;
  }
  return winner;
}
