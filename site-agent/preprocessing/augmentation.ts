// Random changes to a training slice, after nnU-Net: geometry first, then noise, blur, brightness, contrast, resolution
// and gamma, mirroring last. Every number comes from the generator passed in, so a step can be repeated exactly. Labels
// move with the image and take the nearest label; they are never blended.

import type { Prng } from "@consilium/shared/base/prng.ts";
import { type MirrorAxis, mirror, transformGeometry } from "./augment-geometry.ts";
import {
  addNoise,
  blur,
  changeContrast,
  changeGamma,
  lowerResolution,
  scaleBrightness,
} from "./augment-intensity.ts";
import type { Slice } from "./prepare.ts";

/** Probabilities per slice, ranges as [least, most]. */
export interface AugmentationRecord {
  readonly rotation: { readonly probability: number; readonly radiansMax: number };
  /** Magnification; above 1 the anatomy grows. */
  readonly scaling: { readonly probability: number; readonly range: Range };
  /** Shift along each axis as a share of its length. */
  readonly translation: { readonly probability: number; readonly shareMax: number };
  readonly noise: { readonly probability: number; readonly varianceMax: number };
  readonly blur: { readonly probability: number; readonly perChannel: number; readonly sigmaPixels: Range };
  readonly brightness: { readonly probability: number; readonly range: Range };
  readonly contrast: { readonly probability: number; readonly range: Range };
  readonly lowResolution: {
    readonly probability: number;
    readonly perChannel: number;
    readonly range: Range;
  };
  readonly gammaInverted: { readonly probability: number; readonly range: Range };
  readonly gamma: { readonly probability: number; readonly range: Range };
  /** For each axis that may be mirrored. */
  readonly mirroring: { readonly probability: number };
}

type Range = readonly [least: number, most: number];

/**
 * nnU-Net's probabilities and ranges (Isensee et al. 2021, DefaultTrainer). Two choices differ: rotation stays within 30
 * degrees, its range for volumes, because half turns exchange left and right organs; a small shift stands in for the
 * random patch position, which whole slices lack.
 */
export const NNUNET_AUGMENTATION: AugmentationRecord = {
  rotation: { probability: 0.2, radiansMax: Math.PI / 6 },
  scaling: { probability: 0.2, range: [0.7, 1.4] },
  translation: { probability: 0.2, shareMax: 0.1 },
  noise: { probability: 0.1, varianceMax: 0.1 },
  blur: { probability: 0.2, perChannel: 0.5, sigmaPixels: [0.5, 1] },
  brightness: { probability: 0.15, range: [0.75, 1.25] },
  contrast: { probability: 0.15, range: [0.75, 1.25] },
  lowResolution: { probability: 0.25, perChannel: 0.5, range: [0.5, 1] },
  gammaInverted: { probability: 0.1, range: [0.7, 1.5] },
  gamma: { probability: 0.3, range: [0.7, 1.5] },
  mirroring: { probability: 0.5 },
};

export interface AugmentationOptions {
  readonly record: AugmentationRecord;
  /** "row" turns a slice upside down, "column" exchanges its left and right: only where the study allows it. */
  readonly mirrorAxes: readonly MirrorAxis[];
}

/** @returns a new slice; the one passed in keeps its values. */
export function augment(slice: Slice, { record, mirrorAxes }: AugmentationOptions, prng: Prng): Slice {
  const moved = moveRandomly(slice, record, prng);
  const image = moved === slice ? slice.image.slice() : moved.image;
  const changed = { ...moved, image };
  changeIntensities(changed, record, prng);
  const axes = mirrorAxes.filter(() => prng.chance(record.mirroring.probability));
  return axes.length > 0 ? mirror(changed, axes) : changed;
}

function moveRandomly(slice: Slice, record: AugmentationRecord, prng: Prng): Slice {
  const { rotation, scaling, translation } = record;
  const radians = prng.chance(rotation.probability)
    ? prng.uniform(-rotation.radiansMax, rotation.radiansMax)
    : 0;
  const magnification = prng.chance(scaling.probability) ? drawn(scaling.range, prng) : 1;
  const isShifted = prng.chance(translation.probability);
  const shift = (size: number): number =>
    isShifted ? size * prng.uniform(-translation.shareMax, translation.shareMax) : 0;
  const shiftRows = shift(slice.height);
  const shiftColumns = shift(slice.width);
  if (radians === 0 && magnification === 1 && !isShifted) return slice;
  return transformGeometry(slice, { radians, magnification, shiftRows, shiftColumns });
}

/** Changes the slice's own image, which nobody else holds yet. */
function changeIntensities(slice: Slice, record: AugmentationRecord, prng: Prng): void {
  if (prng.chance(record.noise.probability)) addNoise(slice, prng.uniform(0, record.noise.varianceMax), prng);
  if (prng.chance(record.blur.probability)) {
    forSomeChannels(slice, { perChannel: record.blur.perChannel, prng }, (channel) => {
      blur(slice, channel, drawn(record.blur.sigmaPixels, prng));
    });
  }
  if (prng.chance(record.brightness.probability))
    scaleBrightness(slice, drawn(record.brightness.range, prng));
  if (prng.chance(record.contrast.probability)) changeContrast(slice, drawn(record.contrast.range, prng));
  if (prng.chance(record.lowResolution.probability)) {
    forSomeChannels(slice, { perChannel: record.lowResolution.perChannel, prng }, (channel) => {
      lowerResolution(slice, channel, drawn(record.lowResolution.range, prng));
    });
  }
  if (prng.chance(record.gammaInverted.probability)) {
    changeGamma(slice, { gamma: drawn(record.gammaInverted.range, prng), isInverted: true });
  }
  if (prng.chance(record.gamma.probability)) {
    changeGamma(slice, { gamma: drawn(record.gamma.range, prng), isInverted: false });
  }
}

function forSomeChannels(
  slice: Slice,
  { perChannel, prng }: { perChannel: number; prng: Prng },
  change: (channel: number) => void,
): void {
  for (let channel = 0; channel < slice.channels; channel += 1) if (prng.chance(perChannel)) change(channel);
}

function drawn([least, most]: Range, prng: Prng): number {
  return prng.uniform(least, most);
}
