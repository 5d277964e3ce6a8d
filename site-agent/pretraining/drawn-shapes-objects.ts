// Objects of a drawn volume: where each lies, how it changes from slice to slice, and which voxels it covers. Larger
// objects lie below smaller ones, some of them wholly within another. Neighbouring slices of an object are alike, because
// that is what a memory of other slices can learn from.

import { assert } from "@consilium/shared/base/assert.ts";
import type { Prng } from "@consilium/shared/base/prng.ts";
import type { StackSize } from "../prompts/slice-size.ts";
import {
  OUTLINE_REACH,
  OUTLINE_SHARES,
  type OutlineFamily,
  type OutlineKind,
  outlineFamilies,
} from "./drawn-shapes-outlines.ts";

export type DrawnObject = {
  readonly kind: OutlineKind;
  readonly outline: OutlineFamily;
  /** Index of the object below in the list, within which alone this one is seen; null: over everything. */
  readonly host: number | null;
  readonly radiusPx: number;
  /** The middle slice, and slices from there to either end. */
  readonly slice: number;
  readonly halfLength: number;
  /** Centre in the middle slice, and how far it moves from there to either end. */
  readonly centrePx: readonly [x: number, y: number];
  readonly driftPx: readonly [x: number, y: number];
  readonly radians: number;
  readonly turnRadians: number;
};

/** Of the shorter side of a slice. */
const RADIUS_SHARES = { min: 0.12, max: 0.3 };
const RADIUS_MIN_PX = 4;
const NESTED_SHARE = 0.35;
/** Radius of a nested object as a share of its host's. */
const NESTED_RADIUS = { min: 0.25, max: 0.55 };
/** Of the radius, from slice to slice: what the centre moves at most. */
const DRIFT_MAX = 0.1;
/** Slices from the middle of an object to its end, at least; and, as shares of all slices, drawn between. */
const HALF_LENGTH_MIN = 3;
const HALF_LENGTH_SHARES = { min: 0.15, max: 0.9 };

/** From the largest to the smallest. */
export function makeObjects(count: number, size: StackSize, prng: Prng): DrawnObject[] {
  const side = Math.min(size.height, size.width);
  const free = Array.from({ length: count }, (_, index) => {
    // The first one is always free: it can be a host.
    const isNested = index > 0 && prng.chance(NESTED_SHARE);
    const share = Math.exp(prng.uniform(Math.log(RADIUS_SHARES.min), Math.log(RADIUS_SHARES.max)));
    return { isNested, radiusPx: Math.max(RADIUS_MIN_PX, share * side) };
  });
  const largestFirst = free.toSorted((a, b) => b.radiusPx - a.radiusPx);
  const objects: DrawnObject[] = [];
  for (const { isNested, radiusPx } of largestFirst) {
    const host = isNested && objects.length > 0 ? prng.int(0, objects.length - 1) : null;
    objects.push(makeObject({ host, radiusPx, objects, size }, prng));
  }
  return objects;
}

type Wanted = {
  readonly host: number | null;
  readonly radiusPx: number;
  readonly objects: readonly DrawnObject[];
  readonly size: StackSize;
};

function makeObject({ host, radiusPx, objects, size }: Wanted, prng: Prng): DrawnObject {
  const kind = pickKind(prng);
  const around = host === null ? undefined : objects[host];
  const radius = around
    ? Math.max(RADIUS_MIN_PX, around.radiusPx * prng.uniform(NESTED_RADIUS.min, NESTED_RADIUS.max))
    : radiusPx;
  const { min, max } = HALF_LENGTH_SHARES;
  const halfLength = Math.max(
    HALF_LENGTH_MIN,
    size.depth * Math.exp(prng.uniform(Math.log(min), Math.log(max))),
  );
  const slice = around
    ? around.slice + around.halfLength * prng.uniform(-0.4, 0.4)
    : prng.uniform(0, size.depth - 1);
  const centrePx = around
    ? centreWithin(around, slice, prng)
    : ([size.width * prng.uniform(0.12, 0.88), size.height * prng.uniform(0.12, 0.88)] as const);
  const bound = Math.min(0.25 * Math.min(size.height, size.width), DRIFT_MAX * radius * halfLength);
  const drift = (): number => prng.uniform(-bound, bound) / Math.SQRT2;
  return {
    kind,
    outline: outlineFamilies[kind](prng),
    host,
    radiusPx: radius,
    slice,
    halfLength,
    centrePx,
    driftPx: [drift(), drift()],
    radians: prng.uniform(0, 2 * Math.PI),
    turnRadians: prng.uniform(-0.5, 0.5),
  };
}

function centreWithin(host: DrawnObject, slice: number, prng: Prng): readonly [number, number] {
  const along = (slice - host.slice) / host.halfLength;
  const aside = (): number => host.radiusPx * prng.uniform(-0.35, 0.35);
  return [
    host.centrePx[0] + along * host.driftPx[0] + aside(),
    host.centrePx[1] + along * host.driftPx[1] + aside(),
  ];
}

function pickKind(prng: Prng): OutlineKind {
  const bag = OUTLINE_SHARES.flatMap(([kind, share]) => Array.from({ length: share }, () => kind));
  return prng.pick(bag);
}

/** For every object what it may touch: 0 for what lies round all objects, `n` for the earlier object `n`, from 1. */
export function touchedObjects(objects: readonly DrawnObject[]): number[][] {
  return objects.map((object, index) => {
    const touched = objects
      .slice(0, index)
      .flatMap((other, place) => (meets(object, other) ? [place + 1] : []));
    return object.host === null ? [0, ...touched] : touched;
  });
}

function meets(a: DrawnObject, b: DrawnObject): boolean {
  const apart = Math.hypot(a.centrePx[0] - b.centrePx[0], a.centrePx[1] - b.centrePx[1]);
  const reach = (one: DrawnObject): number => one.radiusPx + Math.hypot(...one.driftPx);
  return apart < reach(a) + reach(b) && Math.abs(a.slice - b.slice) < a.halfLength + b.halfLength;
}

/** The index of the object that is seen in each voxel, from 1; 0 where none is: [depth, height, width]. */
export function paintObjects(objects: readonly DrawnObject[], size: StackSize): Uint8Array {
  assert(objects.length < 256, "a voxel's object fits into a byte");
  const seen = new Uint8Array(size.depth * size.height * size.width);
  objects.forEach((object, index) => {
    const first = Math.max(0, Math.ceil(object.slice - object.halfLength));
    const last = Math.min(size.depth - 1, Math.floor(object.slice + object.halfLength));
    for (let slice = first; slice <= last; slice += 1)
      paintSlice(seen, size, { object, slice, id: index + 1 });
  });
  return seen;
}

type Stroke = { readonly object: DrawnObject; readonly slice: number; readonly id: number };

function paintSlice(seen: Uint8Array, size: StackSize, { object, slice, id }: Stroke): void {
  const along = (slice - object.slice) / object.halfLength;
  const radius = object.radiusPx * taper(along);
  if (radius < 1) return;
  const outline = object.outline(along);
  const angle = object.radians + object.turnRadians * along;
  const [cosine, sine] = [Math.cos(angle) / radius, Math.sin(angle) / radius];
  const centreX = object.centrePx[0] + object.driftPx[0] * along;
  const centreY = object.centrePx[1] + object.driftPx[1] * along;
  const reach = radius * OUTLINE_REACH;
  const [left, right] = clipped(centreX, reach, size.width);
  const [top, bottom] = clipped(centreY, reach, size.height);
  const hostId = object.host === null ? null : object.host + 1;
  for (let y = top; y <= bottom; y += 1) {
    const row = (slice * size.height + y) * size.width;
    for (let x = left; x <= right; x += 1) {
      if (hostId !== null && seen[row + x] !== hostId) continue;
      const [dx, dy] = [x - centreX, y - centreY];
      if (outline(dx * cosine + dy * sine, dy * cosine - dx * sine)) seen[row + x] = id;
    }
  }
}

/** Round ends: full size over most of the length. */
function taper(along: number): number {
  return Math.max(0, 1 - along * along) ** 0.3;
}

function clipped(centre: number, reach: number, side: number): [first: number, last: number] {
  return [Math.max(0, Math.ceil(centre - reach)), Math.min(side - 1, Math.floor(centre + reach))];
}
