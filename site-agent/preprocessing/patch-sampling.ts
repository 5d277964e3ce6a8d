// Training patches out of slices that are larger than the network's patch: anywhere, or, for a given share of draws,
// where something contoured lies, so that small organs are seen often enough.

import type { Prng } from "@consilium/shared/base/prng.ts";
import type { Slice } from "./prepare.ts";

export interface PatchOptions {
  readonly height: number;
  readonly width: number;
  /** Share of patches that hold a labelled pixel of the slice, where it has one; nnU-Net takes a third at least. */
  readonly foregroundShare: number;
}

/** @returns the slice itself where it has the size of a patch. It must not be smaller. */
export function samplePatch(slice: Slice, options: PatchOptions, prng: Prng): Slice {
  if (slice.height === options.height && slice.width === options.width) return slice;
  return cutPatch(slice, samplePlace(slice, options, prng));
}

/** Where such a patch lies. */
export function samplePlace(slice: Slice, options: PatchOptions, prng: Prng): PatchPlace {
  const target = prng.chance(options.foregroundShare) ? labelledPixel(slice, prng) : null;
  const row = target === null ? null : Math.floor(target / slice.width);
  const column = target === null ? null : target % slice.width;
  const top = patchStart({ size: slice.height, patch: options.height, through: row }, prng);
  const left = patchStart({ size: slice.width, patch: options.width, through: column }, prng);
  return { top, left, height: options.height, width: options.width };
}

export interface PatchPlace {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}

/** A part of a slice, copied. */
export function cutPatch(slice: Slice, { top, left, height, width }: PatchPlace): Slice {
  const { channels } = slice;
  const image = new Float32Array(height * width * channels);
  const labels = new Uint8Array(height * width);
  for (let row = 0; row < height; row += 1) {
    const from = (top + row) * slice.width + left;
    labels.set(slice.labels.subarray(from, from + width), row * width);
    image.set(slice.image.subarray(from * channels, (from + width) * channels), row * width * channels);
  }
  return { ...slice, image, labels, height, width };
}

/** A random labelled pixel, null where the slice has none. */
function labelledPixel({ labels }: Slice, prng: Prng): number | null {
  const pixels: number[] = [];
  labels.forEach((label, pixel) => {
    if (label > 0) pixels.push(pixel);
  });
  return pixels.length > 0 ? prng.pick(pixels) : null;
}

/** A start within the slice whose patch covers the wanted place. */
function patchStart(
  { size, patch, through }: { size: number; patch: number; through: number | null },
  prng: Prng,
): number {
  const startMax = size - patch;
  if (through === null) return prng.int(0, startMax);
  return prng.int(Math.max(0, through - patch + 1), Math.min(startMax, through));
}
