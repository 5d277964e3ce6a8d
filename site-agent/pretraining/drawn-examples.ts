// What one step of pretraining looks at: slices of drawn volumes with some of their objects, or a clip of slices of one
// volume. Nothing is kept between steps: each draws its own volumes.

import { assert } from "@consilium/shared/base/assert.ts";
import type { Prng } from "@consilium/shared/base/prng.ts";
import { DRAWN_VOLUME_PLAN, type DrawnVolume, drawVolume } from "./drawn-shapes.ts";

/** Some objects in several images; an object is in one image. */
export type DrawnSlices = {
  /** Brightness from 0 to 1, each [side, side]. */
  readonly images: readonly Float32Array[];
  /** For every object the index of its image. */
  readonly owners: readonly number[];
  /** 0 and 1, one for every object, each [side, side]. */
  readonly masks: readonly Uint8Array[];
};

/** The same objects in every image, which follow each other in the volume. */
export type DrawnClip = {
  readonly images: readonly Float32Array[];
  /** For every image one mask for each object; all are seen in the first image. */
  readonly masks: readonly (readonly Uint8Array[])[];
};

export type ExamplePlan = {
  readonly imageCount: number;
  /** Of one image. */
  readonly objectCountMax: number;
  /** Pixels that are seen of an object in its first image. */
  readonly areaMinPx: number;
};

/** Slices of a volume for single images: as thin as keeps its objects whole. */
const THIN_DEPTH = 2;
const CLIP_STRIDE_MAX = 2;
const DRAWING_TRIES_MAX = 32;

/** @param plan images, each of a volume of its own, and objects of each image at most */
export function drawSlices(plan: ExamplePlan, side: number, prng: Prng): DrawnSlices {
  const images: Float32Array[] = [];
  const owners: number[] = [];
  const masks: Uint8Array[] = [];
  for (let index = 0; index < plan.imageCount; index += 1) {
    const { volume, slices, objects } = drawSeen({ ...plan, imageCount: 1 }, side, prng);
    for (const slice of slices) {
      images.push(imageOf(volume, slice));
      masks.push(...objects.map((object) => maskOf(volume, slice, object)));
      owners.push(...objects.map(() => index));
    }
  }
  return { images, owners, masks };
}

export function drawClip(plan: ExamplePlan, side: number, prng: Prng): DrawnClip {
  const { volume, slices, objects } = drawSeen(plan, side, prng);
  return {
    images: slices.map((slice) => imageOf(volume, slice)),
    masks: slices.map((slice) => objects.map((object) => maskOf(volume, slice, object))),
  };
}

type Seen = {
  readonly volume: DrawnVolume;
  readonly slices: readonly number[];
  readonly objects: readonly number[];
};

/** A volume, some of its slices at equal distances in either direction, and objects that are seen in the first one. */
function drawSeen({ imageCount, objectCountMax, areaMinPx }: ExamplePlan, side: number, prng: Prng): Seen {
  for (let attempt = 0; attempt < DRAWING_TRIES_MAX; attempt += 1) {
    const stride = prng.int(1, CLIP_STRIDE_MAX);
    const length = (imageCount - 1) * stride + 1;
    const depth = Math.max(THIN_DEPTH, length);
    const volume = drawVolume({ ...DRAWN_VOLUME_PLAN, depth, height: side, width: side }, prng.uint32());
    const start = prng.int(0, depth - length);
    const forward = Array.from({ length: imageCount }, (_, index) => start + index * stride);
    const slices = prng.chance(0.5) ? forward : forward.toReversed();
    const objects = prng.shuffled(seenObjects(volume, slices[0] ?? 0, areaMinPx)).slice(0, objectCountMax);
    if (objects.length > 0) return { volume, slices, objects };
  }
  assert(false, "a drawn volume shows an object");
}

/** Numbers of the objects that are large enough in a slice to be prompted. */
function seenObjects(
  { labels, height, width, objectCount }: DrawnVolume,
  slice: number,
  areaMinPx: number,
): number[] {
  const areas = new Uint32Array(objectCount + 1);
  for (const label of labels.subarray(slice * height * width, (slice + 1) * height * width)) {
    areas[label] = (areas[label] ?? 0) + 1;
  }
  const numbers = Array.from({ length: objectCount }, (_, index) => index + 1);
  return numbers.filter((object) => (areas[object] ?? 0) >= areaMinPx);
}

function imageOf({ image, height, width }: DrawnVolume, slice: number): Float32Array {
  return image.slice(slice * height * width, (slice + 1) * height * width);
}

function maskOf({ labels, height, width }: DrawnVolume, slice: number, object: number): Uint8Array {
  const seen = labels.subarray(slice * height * width, (slice + 1) * height * width);
  return seen.map((label) => Number(label === object));
}
