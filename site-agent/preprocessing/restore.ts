// The way back from slices to the input's own grid: class probabilities are resampled linearly, the most probable class
// wins, crop, padding and orientation are undone. The result has exactly the input's shape and affine.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import { type Labelmap, makeLabelmap } from "../data/volume.ts";
import { fromCanonical } from "./orientation.ts";
import { ordersFor, type PreparedGeometry } from "./prepare.ts";
import { resample } from "./resample.ts";
import { pasteSlice, planeSize } from "./slice-stack.ts";

/**
 * @param probabilities one array [height, width, classes] per slice, classes fastest.
 * @param labels label of each class; the first is background, which is also what lies outside the slices.
 */
export function restoreLabels(
  probabilities: readonly Float32Array[],
  geometry: PreparedGeometry,
  labels: readonly number[],
): Labelmap {
  const { canonicalShape, axes, input } = geometry;
  const winners = new Uint8Array(canonicalShape[0] * canonicalShape[1] * canonicalShape[2]);
  const best = new Float32Array(winners.length).fill(Number.NEGATIVE_INFINITY);
  for (const [index, label] of labels.entries()) {
    const shares = restoredClass(probabilities, geometry, { index, count: labels.length });
    for (let voxel = 0; voxel < winners.length; voxel += 1) {
      const share = shares[voxel] ?? 0;
      if (share <= (best[voxel] ?? 0)) continue; // Of equals, the earlier class keeps the voxel.
      best[voxel] = share;
      winners[voxel] = label;
    }
  }
  return makeLabelmap(input, fromCanonical(winners, input.shape, axes));
}

/** One class's probabilities over the canonical grid of the input. */
function restoredClass(
  probabilities: readonly Float32Array[],
  { stack, canonicalShape, isAnisotropic }: PreparedGeometry,
  { index, count }: { index: number; count: number },
): Float32Array {
  const { sliceCount } = planeSize(stack.shape, stack.sliceAxis);
  assert(probabilities.length === sliceCount, "there is one prediction per slice");
  const volume = new Float32Array(stack.shape[0] * stack.shape[1] * stack.shape[2]).fill(index === 0 ? 1 : 0);
  const plane = new Float32Array(stack.height * stack.width);
  for (let slice = 0; slice < sliceCount; slice += 1) {
    const source = expectDefined(probabilities[slice], "probabilities of a slice");
    assert(source.length === plane.length * count, "a prediction has one share per pixel and class");
    for (let pixel = 0; pixel < plane.length; pixel += 1) plane[pixel] = source[pixel * count + index] ?? 0;
    pasteSlice(plane, stack, { volume, index: slice });
  }
  const orders = ordersFor(1, stack.sliceAxis, isAnisotropic);
  return resample(volume, { from: stack.shape, to: canonicalShape, orders });
}
