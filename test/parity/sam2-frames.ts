// The frames of a case of the SAM 2 family: stored as they enter the model, stored as pictures, or drawn by the formula
// that the case's note on frames names.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { CaseError, type CaseFolder } from "./case-folder.ts";
import { drawnPicture } from "./drawn-picture.ts";

/** Of ImageNet, as the official code normalises. */
const MEAN = [0.485, 0.456, 0.406];
const DEVIATION = [0.229, 0.224, 0.225];
const BY_FORMULA = /image_u8\(tag='([^']*)'.*step=S\/(\d+), T=(\d+)/;

export type Frame = {
  readonly height: number;
  readonly width: number;
  /** Height, width, channels; normalised. */
  readonly pixels: Float32Array;
};

export function readFrames({ inputs, notes }: CaseFolder, imageSize: number): Frame[] {
  const ready = inputs.get("frames");
  if (ready) return splitFrames(ready.shape, channelsLast(ready.shape, ready.values));
  const pictures = inputs.get("frames_u8");
  if (pictures) return splitFrames(swapped(pictures.shape), normalised(pictures.values));
  const told = BY_FORMULA.exec(String(notes["frames"] ?? ""));
  if (!told) throw new CaseError("frames are neither stored nor told by a formula in the notes");
  const [, tag = "", divisor = "32", count = "1"] = told;
  return drawnFrames({ tag, step: Math.floor(imageSize / Number(divisor)), count: Number(count) }, imageSize);
}

type Drawn = { readonly tag: string; readonly step: number; readonly count: number };

/** A window that moves over one large picture. */
function drawnFrames({ tag, step, count }: Drawn, side: number): Frame[] {
  const whole = side + step * count;
  const picture = drawnPicture(tag, whole, whole);
  return Array.from({ length: count }, (_, time) => {
    const [top, left] = [Math.floor((step * time) / 2), step * time];
    const cut = new Uint8Array(side * side * 3);
    for (let row = 0; row < side; row += 1) {
      const start = ((top + row) * whole + left) * 3;
      cut.set(picture.subarray(start, start + side * 3), row * side * 3);
    }
    return { height: side, width: side, pixels: normalised(cut) };
  });
}

function normalised(pixels: ArrayLike<number>): Float32Array {
  return Float32Array.from(pixels, (value, index) => {
    const [mean = 0, deviation = 1] = [MEAN[index % 3], DEVIATION[index % 3]];
    return (value / 255 - mean) / deviation;
  });
}

function swapped([count = 0, height = 0, width = 0, channels = 0]: readonly number[]): number[] {
  return [count, channels, height, width];
}

function channelsLast(
  [count = 0, channels = 0, height = 0, width = 0]: readonly number[],
  values: ArrayLike<number>,
) {
  const area = height * width;
  return Float32Array.from({ length: count * channels * area }, (_, index) => {
    const [pixel, channel] = [Math.floor(index / channels), index % channels];
    return values[(Math.floor(pixel / area) * channels + channel) * area + (pixel % area)] ?? 0;
  });
}

function splitFrames(
  [count = 0, channels = 0, height = 0, width = 0]: readonly number[],
  values: Float32Array,
): Frame[] {
  const length = height * width * channels;
  return Array.from({ length: count }, (_, time) => {
    const pixels = expectDefined(values.subarray(time * length, (time + 1) * length), "frame");
    return { height, width, pixels };
  });
}
