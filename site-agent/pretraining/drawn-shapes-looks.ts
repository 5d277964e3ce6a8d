// Brightness and texture of the objects of a drawn volume and of what lies round them. Objects that may touch differ in
// brightness where there is room for it; contrast as a whole is lowered later.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { Prng } from "@consilium/shared/base/prng.ts";

export type Look = {
  readonly brightness: number;
  /** Weights of the coarse and of the fine pattern. */
  readonly coarse: number;
  readonly fine: number;
  readonly stripes: Stripes | null;
  /** Deviation of the noise of its own. */
  readonly speckle: number;
};

export type Stripes = {
  readonly height: number;
  /** Radians a voxel. */
  readonly rates: readonly [x: number, y: number, z: number];
  readonly phase: number;
};

/** Leaves room for textures on both sides. */
const BRIGHTNESS = { min: 0.12, max: 0.88 };
/** Between an object and what it may touch, before contrast is lowered. */
const BRIGHTNESS_STEP_MIN = 0.14;
const BRIGHTNESS_TRIES_MAX = 16;

/**
 * Of what lies round all objects first, then of the objects in their order.
 * @param touched for every object the looks that it may touch: 0 for what lies round all, `n` for object `n`, all of them
 * earlier ones
 * @param air outside of the body where there is one: what touches the body may reach into it
 */
export function makeLooks(touched: readonly (readonly number[])[], air: Look | null, prng: Prng): Look[] {
  const looks: Look[] = [makeLook(prng.uniform(BRIGHTNESS.min, BRIGHTNESS.max), prng)];
  for (const numbers of touched) {
    const around = numbers.map((number) => expectDefined(looks[number], "an earlier look").brightness);
    const outside = air && numbers.includes(0) ? [air.brightness] : [];
    looks.push(makeLook(brightnessApart([...around, ...outside], prng), prng));
  }
  return looks;
}

/** Of some brightnesses the first that is far enough from all others, or the farthest. */
function brightnessApart(others: readonly number[], prng: Prng): number {
  let [best, distance] = [BRIGHTNESS.min, -1];
  for (let attempt = 0; attempt < BRIGHTNESS_TRIES_MAX && distance < BRIGHTNESS_STEP_MIN; attempt += 1) {
    const brightness = prng.uniform(BRIGHTNESS.min, BRIGHTNESS.max);
    const nearest = Math.min(...others.map((other) => Math.abs(brightness - other)));
    if (nearest > distance) [best, distance] = [brightness, nearest];
  }
  return best;
}

function makeLook(brightness: number, prng: Prng): Look {
  const rate = (): number => prng.uniform(-0.9, 0.9);
  const stripes = {
    height: prng.uniform(0.03, 0.12),
    rates: [rate(), rate(), 0.2 * rate()],
    phase: prng.uniform(0, 2 * Math.PI),
  } as const;
  return {
    brightness,
    coarse: prng.uniform(-0.12, 0.12),
    fine: prng.chance(0.5) ? prng.uniform(-0.12, 0.12) : 0,
    stripes: prng.chance(0.25) ? stripes : null,
    speckle: prng.chance(0.4) ? prng.uniform(0, 0.08) : 0,
  };
}

/** Outside of a body: dark and even. */
export function airLook(prng: Prng): Look {
  return { brightness: prng.uniform(0, 0.1), coarse: 0, fine: 0, stripes: null, speckle: 0 };
}
