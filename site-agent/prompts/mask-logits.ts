// Masks as prompts. SAM 2's mask path expects logits on a grid of a quarter of the model's image; a prompter's
// probabilities become log-odds, and a drawn mask becomes a confident, deliberately inexact one.

import type { Prng } from "@consilium/shared/base/prng.ts";
import { resizedPlane } from "./resize-plane.ts";
import { pixelsOf, type SliceSize } from "./slice-size.ts";

/** Inferred: log-odds of a prompter are clamped here; SAM 2 clamps its own logits at 32. */
export const PROMPTER_LOGIT_MAX = 10;

/** Log-odds of a probability, within the bounds. */
export function clampedLogit(probability: number): number {
  const logit = Math.log(probability / (1 - probability));
  if (Number.isNaN(logit)) return -PROMPTER_LOGIT_MAX;
  return Math.min(Math.max(logit, -PROMPTER_LOGIT_MAX), PROMPTER_LOGIT_MAX);
}

/** @param plane probabilities [size.height, size.width] @returns logits [grid.height, grid.width] */
export function maskLogitsFromProbabilities(
  plane: Float32Array,
  size: SliceSize,
  grid: SliceSize,
): Float32Array {
  return resizedPlane(plane.map(clampedLogit), size, grid);
}

export type MaskRoughness = {
  /** The mask is moved by up to this many pixels along each axis. */
  readonly shiftPxMax: number;
  /** The mask grows or shrinks by up to this many pixels. */
  readonly growPxMax: number;
};

/**
 * A drawn mask as a prompt that a prompter might have given: moved, grown or shrunk, so that a model that merely copies
 * its prompt is wrong. Inferred: the paper does not say how mask prompts are made in training.
 * @param mask [size.height, size.width] @returns logits [grid.height, grid.width]
 */
export function maskLogitsFromTruth(
  mask: Uint8Array,
  { size, grid }: { readonly size: SliceSize; readonly grid: SliceSize },
  { roughness, prng }: { readonly roughness: MaskRoughness; readonly prng: Prng },
): Float32Array {
  const rough = roughened(mask, size, { roughness, prng });
  const logits = Float32Array.from(rough, (value) =>
    value === 0 ? -PROMPTER_LOGIT_MAX : PROMPTER_LOGIT_MAX,
  );
  return resizedPlane(logits, size, grid);
}

/** Mask [height, width], moved and grown or shrunk. */
export function roughened(
  mask: Uint8Array,
  size: SliceSize,
  { roughness, prng }: { readonly roughness: MaskRoughness; readonly prng: Prng },
): Uint8Array {
  const { shiftPxMax, growPxMax } = roughness;
  const dx = prng.int(-shiftPxMax, shiftPxMax);
  const dy = prng.int(-shiftPxMax, shiftPxMax);
  const growth = prng.int(-growPxMax, growPxMax);
  let rough = shifted(mask, size, { dx, dy });
  for (let step = 0; step < Math.abs(growth); step += 1) rough = grown(rough, size, growth > 0 ? 1 : 0);
  return rough;
}

function shifted(mask: Uint8Array, size: SliceSize, { dx, dy }: { dx: number; dy: number }): Uint8Array {
  const moved = new Uint8Array(mask.length);
  for (let y = Math.max(0, dy); y < Math.min(size.height, size.height + dy); y += 1) {
    for (let x = Math.max(0, dx); x < Math.min(size.width, size.width + dx); x += 1) {
      moved[y * size.width + x] = mask[(y - dy) * size.width + x - dx] ?? 0;
    }
  }
  return moved;
}

/** Every pixel beside one of value `winner` takes that value: 1 grows a mask, 0 shrinks it. */
function grown(mask: Uint8Array, size: SliceSize, winner: 0 | 1): Uint8Array {
  const { width } = size;
  const after = mask.slice();
  for (let pixel = 0; pixel < pixelsOf(size); pixel += 1) {
    if (mask[pixel] === winner) continue;
    const x = pixel % width;
    const beside = [
      x > 0 ? mask[pixel - 1] : undefined,
      x < width - 1 ? mask[pixel + 1] : undefined,
      mask[pixel - width],
      mask[pixel + width],
    ];
    if (beside.includes(winner)) after[pixel] = winner;
  }
  return after;
}
