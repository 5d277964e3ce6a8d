// Outlines of drawn objects in the plane: blobs, polygons, shells and thin, open and branching ones, most of which fill
// little of their box. They know no pixel and no volume.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { Prng } from "@consilium/shared/base/prng.ts";

/** Whether a place belongs to the object; nothing beyond a distance of `OUTLINE_REACH` does. */
export type Outline = (u: number, v: number) => boolean;

/** One object's outlines along its length: `along` runs from -1 to 1, and near places have near outlines. */
export type OutlineFamily = (along: number) => Outline;

export const OUTLINE_REACH = 1.05;

export type OutlineKind =
  | "spot"
  | "blob"
  | "polygon"
  | "star"
  | "shell"
  | "arc"
  | "crescent"
  | "bar"
  | "wave"
  | "fork";

/** How often each is drawn: more than half of the objects are compact, as organs are. */
export const OUTLINE_SHARES: readonly (readonly [kind: OutlineKind, share: number])[] = [
  ["blob", 9],
  ["polygon", 4],
  ["spot", 2],
  ["star", 2],
  ["shell", 2],
  ["arc", 1],
  ["crescent", 2],
  ["bar", 2],
  ["wave", 1],
  ["fork", 1],
];

export const outlineFamilies: Readonly<Record<OutlineKind, (prng: Prng) => OutlineFamily>> = {
  spot(prng) {
    return squeezed(prng.uniform(0.8, 1), () => (u, v) => u * u + v * v < 1);
  },
  blob(prng) {
    const radius = lobedRadius(prng, 0.5);
    return squeezed(prng.uniform(0.45, 1), (along) => within(radius(along)));
  },
  polygon(prng) {
    const radius = polygonRadius(prng, { corners: prng.int(3, 6), radiusMin: 0.75 });
    return squeezed(prng.uniform(0.5, 1), () => within(radius));
  },
  star(prng) {
    const radius = polygonRadius(prng, { corners: prng.int(5, 10), radiusMin: 0.25 });
    return squeezed(prng.uniform(0.7, 1), () => within(radius));
  },
  shell(prng) {
    const radius = lobedRadius(prng, 0.25);
    const hollow = prng.uniform(0.5, 0.82);
    return squeezed(prng.uniform(0.6, 1), (along) => between(radius(along), hollow));
  },
  arc(prng) {
    const radius = lobedRadius(prng, 0.2);
    const hollow = prng.uniform(0.55, 0.82);
    const halfGap = prng.uniform(0.5, 1.7);
    return squeezed(prng.uniform(0.7, 1), (along) => {
      const inside = between(radius(along), hollow);
      return (u, v) => Math.abs(Math.atan2(v, u)) > halfGap && inside(u, v);
    });
  },
  crescent(prng) {
    const shift = prng.uniform(0.35, 0.75);
    const bite = prng.uniform(0.75, 1);
    const swing = prng.uniform(-0.1, 0.1);
    return (along) => (u, v) => u * u + v * v < 1 && (u - shift - swing * along) ** 2 + v * v > bite * bite;
  },
  bar(prng) {
    const radius = lobedRadius(prng, 0.15);
    return squeezed(prng.uniform(0.14, 0.35), (along) => within(radius(along)));
  },
  wave(prng) {
    const half = prng.uniform(0.07, 0.16);
    const height = prng.uniform(0.15, 0.38);
    const rate = prng.uniform(1.5, 4.5);
    const phase = prng.uniform(0, 2 * Math.PI);
    const turn = prng.uniform(-0.6, 0.6);
    return (along) => (u, v) => {
      if (Math.abs(u) > 0.9) return false;
      const at = rate * u + phase + turn * along;
      // The distance to a curve is the distance upwards times the cosine of its slope.
      return Math.abs(v - height * Math.sin(at)) < half * Math.hypot(1, height * rate * Math.cos(at));
    };
  },
  fork(prng) {
    const half = prng.uniform(0.08, 0.16);
    const opening = prng.uniform(0.4, 1);
    const stem = { angle: Math.PI, length: prng.uniform(0.6, 0.95) };
    const branches = [opening, -opening].map((angle) => ({ angle, length: prng.uniform(0.6, 0.95) }));
    const swing = prng.uniform(-0.15, 0.15);
    return (along) => {
      const arms = [stem, ...branches].map(({ angle, length }) => arm(angle + swing * along, length, half));
      return (u, v) => arms.some((reaches) => reaches(u, v));
    };
  },
};

/** The object's second axis is shorter than its first by a share. */
function squeezed(share: number, family: OutlineFamily): OutlineFamily {
  return (along) => {
    const outline = family(along);
    return (u, v) => outline(u, v / share);
  };
}

/** Radii at even angles from -pi on. */
type RadiusTable = Float64Array;
const ANGLE_COUNT = 128;

function angleOf(index: number): number {
  return ((index + 0.5) / ANGLE_COUNT) * 2 * Math.PI - Math.PI;
}

function radiusAt(table: RadiusTable, u: number, v: number): number {
  const index = Math.floor(((Math.atan2(v, u) + Math.PI) / (2 * Math.PI)) * ANGLE_COUNT);
  return table[Math.min(index, ANGLE_COUNT - 1)] ?? 0;
}

function within(table: RadiusTable): Outline {
  return (u, v) => {
    const distance = Math.hypot(u, v);
    return distance < 1 && distance < radiusAt(table, u, v);
  };
}

function between(table: RadiusTable, hollow: number): Outline {
  return (u, v) => {
    const distance = Math.hypot(u, v);
    if (distance >= 1) return false;
    const radius = radiusAt(table, u, v);
    return distance < radius && distance > hollow * radius;
  };
}

/** A circle with waves of two to five periods on it, which move on along the object; the largest radius is 1 or less. */
function lobedRadius(prng: Prng, depth: number): (along: number) => RadiusTable {
  const waves = [2, 3, 4, 5].map((periods) => ({
    periods,
    height: prng.uniform(0, depth / (periods - 1)),
    phase: prng.uniform(0, 2 * Math.PI),
    turn: prng.uniform(-0.8, 0.8),
  }));
  const highest = 1 + waves.reduce((sum, { height }) => sum + height, 0);
  return (along) =>
    Float64Array.from({ length: ANGLE_COUNT }, (_, index) => {
      const angle = angleOf(index);
      const bumps = waves.map(
        ({ periods, height, phase, turn }) => height * Math.cos(periods * angle + phase + turn * along),
      );
      return bumps.reduce((sum, bump) => sum + bump, 1) / highest;
    });
}

/** Corners at uneven angles and distances; no two neighbours are half a turn apart. */
function polygonRadius(
  prng: Prng,
  { corners, radiusMin }: { readonly corners: number; readonly radiusMin: number },
): RadiusTable {
  const step = (2 * Math.PI) / corners;
  const points = Array.from({ length: corners }, (_, corner) => ({
    angle: corner * step - Math.PI + step * prng.uniform(-0.2, 0.2),
    radius: prng.uniform(radiusMin, 1),
  }));
  return Float64Array.from({ length: ANGLE_COUNT }, (_, index) => {
    const angle = angleOf(index);
    const next = points.findIndex((point) => point.angle > angle);
    const end = expectDefined(points[next === -1 ? 0 : next], "corner");
    const start = expectDefined(points.at((next === -1 ? 0 : next) - 1), "corner");
    return crossing(angle, start, end);
  });
}

type Corner = { readonly angle: number; readonly radius: number };

/** Where the ray at an angle meets the line between two corners: by the law of sines, from the middle. */
function crossing(angle: number, start: Corner, end: Corner): number {
  const whole = start.radius * end.radius * Math.sin(end.angle - start.angle);
  const parts = start.radius * Math.sin(angle - start.angle) + end.radius * Math.sin(end.angle - angle);
  return whole / parts;
}

/** A straight arm with a round end, from the middle outwards. */
function arm(angle: number, length: number, half: number): Outline {
  const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
  return (u, v) => {
    const forward = Math.min(Math.max(u * cosine + v * sine, 0), length);
    return (u - forward * cosine) ** 2 + (v - forward * sine) ** 2 < half * half;
  };
}
