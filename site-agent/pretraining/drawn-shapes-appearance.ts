// How a drawn volume looks: the objects' own looks, often a body with air round it, then what an imaging machine adds:
// blurred edges, a slow change of brightness over the image, contrast that can be low, and noise.

import type { Prng } from "@consilium/shared/base/prng.ts";
import type { StackSize } from "../prompts/slice-size.ts";
import { addNoise, blurInPlane, brightnessField } from "./drawn-shapes-acquisition.ts";
import { airLook, type Look, makeLooks, type Stripes } from "./drawn-shapes-looks.ts";
import { type NoiseRow, smoothNoise } from "./drawn-shapes-noise.ts";

type Drawing = { readonly size: StackSize; readonly prng: Prng };

const BODY_SHARE = 0.5;
const BLUR_SHARE = 0.7;
const FIELD_SHARE = 0.6;
const FIELD_STRENGTH = { min: 0.1, max: 0.4 };
const CONTRAST_MIN = 0.25;
/** Deviation of the noise, of the contrast. */
const NOISE_MAX = 0.1;

/**
 * @param seen the object of every voxel, from 1, 0 for none: [depth, height, width]
 * @param touched for every object those that it may touch, as in `makeLooks`
 * @returns brightness from 0 to 1, [depth, height, width]
 */
export function renderObjects(
  seen: Uint8Array,
  touched: readonly (readonly number[])[],
  { size, prng }: Drawing,
): Float32Array {
  const body = prng.chance(BODY_SHARE) ? makeBody(size, prng) : null;
  const looks = makeLooks(touched, body?.look ?? null, prng);
  const image = paintLooks({ seen, looks, body }, { size, prng });
  if (prng.chance(BLUR_SHARE)) blurInPlane(image, size);
  const contrast = Math.exp(prng.uniform(Math.log(CONTRAST_MIN), 0));
  const middle = prng.uniform(contrast / 2, 1 - contrast / 2);
  const strength = prng.chance(FIELD_SHARE) ? prng.uniform(FIELD_STRENGTH.min, FIELD_STRENGTH.max) : 0;
  const field = brightnessField(size, strength, prng);
  const noise = prng.uniform(0, NOISE_MAX);
  const deviations = looks.map(({ speckle }) => contrast * (noise + speckle));
  addNoise(image, { size, prng, contrast, middle, field }, (voxel) => deviations[seen[voxel] ?? 0] ?? 0);
  return image;
}

/** An ellipse in every slice, which moves a little from slice to slice. */
type Body = {
  readonly look: Look;
  readonly centrePx: readonly [x: number, y: number];
  readonly halfPx: readonly [x: number, y: number];
  readonly driftPx: readonly [x: number, y: number];
};

function makeBody({ depth, height, width }: StackSize, prng: Prng): Body {
  const half = (side: number): number => side * prng.uniform(0.36, 0.49);
  const drift = (): number => prng.uniform(-0.1, 0.1) / Math.sqrt(depth);
  return {
    look: airLook(prng),
    centrePx: [width / 2, height / 2],
    halfPx: [half(width), half(height)],
    driftPx: [drift(), drift()],
  };
}

/** First and last column of the body in a row; the first lies behind the last where the row misses it. */
function bodySpan({ centrePx, halfPx, driftPx }: Body, z: number, y: number): [first: number, last: number] {
  const share = 1 - ((y - centrePx[1] - z * driftPx[1]) / halfPx[1]) ** 2;
  if (share <= 0) return [1, 0];
  const half = halfPx[0] * Math.sqrt(share);
  const middle = centrePx[0] + z * driftPx[0];
  return [middle - half, middle + half];
}

const COARSE_CELL_PX = 20;
const FINE_CELL_PX = 4;

type Scene = {
  readonly seen: Uint8Array;
  readonly looks: readonly Look[];
  readonly body: Body | null;
};

function paintLooks(scene: Scene, { size, prng }: Drawing): Float32Array {
  const patterns = [smoothNoise(size, COARSE_CELL_PX, prng), smoothNoise(size, FINE_CELL_PX, prng)] as const;
  const image = new Float32Array(scene.seen.length);
  for (let z = 0; z < size.depth; z += 1) {
    for (let y = 0; y < size.height; y += 1) paintRow(image, scene, { patterns, size, z, y });
  }
  return image;
}

type Row = {
  readonly patterns: readonly [coarse: NoiseRow, fine: NoiseRow];
  readonly size: StackSize;
  readonly z: number;
  readonly y: number;
};

function paintRow(
  image: Float32Array,
  { seen, looks, body }: Scene,
  { patterns, size: { height, width }, z, y }: Row,
): void {
  const start = (z * height + y) * width;
  const [coarse, fine] = [patterns[0](z, y), patterns[1](z, y)];
  const [first, last] = body ? bodySpan(body, z, y) : [0, width];
  for (let x = 0; x < width; x += 1) {
    const object = seen[start + x] ?? 0;
    const look = body && object === 0 && (x < first || x > last) ? body.look : looks[object];
    if (!look) continue;
    const texture = look.coarse * (coarse[x] ?? 0) + look.fine * (fine[x] ?? 0);
    image[start + x] = look.brightness + texture + (look.stripes ? stripe(look.stripes, x, y, z) : 0);
  }
}

function stripe({ height, rates, phase }: Stripes, x: number, y: number, z: number): number {
  return height * Math.sin(rates[0] * x + rates[1] * y + rates[2] * z + phase);
}
