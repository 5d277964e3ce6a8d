// Volumes to pretrain on that no patient ever was part of: drawn objects that overlap, lie within each other and run
// through several slices, with textures, low contrast, uneven brightness and noise. The same seed gives the same bytes.
// Objects are of many shapes on purpose: a box alone must not be an answer.

import { assert } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import type { StackSize } from "../prompts/slice-size.ts";
import { renderObjects } from "./drawn-shapes-appearance.ts";
import { makeObjects, paintObjects, touchedObjects } from "./drawn-shapes-objects.ts";

export type DrawnVolumePlan = StackSize & {
  readonly objectCountMin: number;
  readonly objectCountMax: number;
};

export const DRAWN_VOLUME_PLAN: DrawnVolumePlan = {
  depth: 64,
  height: 128,
  width: 128,
  objectCountMin: 3,
  objectCountMax: 8,
};

export type DrawnVolume = StackSize & {
  /** Brightness from 0 to 1, [depth, height, width]. */
  readonly image: Float32Array;
  /** The object that is seen in each voxel, from 1 to `objectCount`, 0 for none: [depth, height, width]. */
  readonly labels: Uint8Array;
  /** Of some no voxel may be seen: others lie over them. */
  readonly objectCount: number;
};

const SIDE_MIN = 16;
const SIDE_MAX = 1024;
const OBJECTS_MAX = 64;

/** @param seed of this one volume; objects and their looks have generators of their own */
export function drawVolume(plan: DrawnVolumePlan, seed: number): DrawnVolume {
  const { depth, height, width, objectCountMin, objectCountMax } = plan;
  const isSide = (side: number): boolean => Number.isInteger(side) && side >= SIDE_MIN && side <= SIDE_MAX;
  assert(isSide(height) && isSide(width), `a slice has sides of ${SIDE_MIN} to ${SIDE_MAX} pixels`);
  assert(Number.isInteger(depth) && depth >= 1 && depth <= SIDE_MAX, `a volume has 1 to ${SIDE_MAX} slices`);
  assert(objectCountMin >= 1 && objectCountMin <= objectCountMax, "a volume has an object");
  assert(objectCountMax <= OBJECTS_MAX, `a volume has at most ${OBJECTS_MAX} objects`);
  const size = { depth, height, width };
  const prng = Prng.labelled(seed, "objects");
  const objects = makeObjects(prng.int(objectCountMin, objectCountMax), size, prng);
  const labels = paintObjects(objects, size);
  const image = renderObjects(labels, touchedObjects(objects), { size, prng: Prng.labelled(seed, "looks") });
  return { ...size, image, labels, objectCount: objects.length };
}
