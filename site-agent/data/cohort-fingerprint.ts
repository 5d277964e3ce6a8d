// The measurements of single cases and their summary over a cohort. Pure; a case's own measurements never leave the
// site, only the summary does.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import type { CohortFingerprint } from "@consilium/shared/model/cohort-fingerprint.ts";
import { AXES, type Axis, type Vec3 } from "./affine.ts";
import { anatomicalAxes, inAnatomicalOrder } from "./anatomical-axes.ts";
import { percentile, percentiles } from "./percentile.ts";
import type { Modality } from "./study-source.ts";
import { type Labelmap, labelCounts, labelsPresent, type Volume } from "./volume.ts";

/** Contoured voxels sampled from each case, evenly spaced in memory order. */
const FOREGROUND_SAMPLE_PER_CASE = 10_000;
/** Contoured voxels of a cohort that its statistics are taken from. */
const FOREGROUND_SAMPLE_MAX = 10_000_000;
/** No MR scanner writes intensities this far below zero; every CT that shows air or fat does. */
const CT_INTENSITY_BELOW = -150;

export interface CaseFingerprint {
  /** Along R, A and S. */
  readonly shape: Vec3;
  readonly spacingMm: Vec3;
  readonly intensityMin: number;
  readonly foregroundSample: Float32Array;
  readonly labels: readonly number[];
}

export function caseFingerprint(volume: Volume, labelmap: Labelmap | null): CaseFingerprint {
  const axes = anatomicalAxes(volume.grid.affine);
  return {
    shape: inAnatomicalOrder(volume.grid.shape, axes),
    spacingMm: inAnatomicalOrder(volume.grid.spacingMm, axes),
    intensityMin: smallest(volume.voxels),
    foregroundSample: labelmap ? foregroundSample(volume, labelmap) : new Float32Array(0),
    labels: labelmap ? labelsPresent(labelmap) : [],
  };
}

/** @param modality what the data set states; guessed from the intensities where it is null. */
export function cohortFingerprint(
  cases: readonly CaseFingerprint[],
  modality: Modality | null = null,
): CohortFingerprint {
  assert(cases.length > 0, "a cohort has at least one case");
  const extentsMm = cases.map(({ shape, spacingMm }) => perAxis((axis) => shape[axis] * spacingMm[axis]));
  return {
    cases: cases.length,
    modality: modality ?? guessedModality(cases),
    spacingMmMedian: axisPercentile(
      cases.map(({ spacingMm }) => spacingMm),
      0.5,
    ),
    shapeMedian: axisPercentile(
      cases.map(({ shape }) => shape),
      0.5,
    ),
    extentMmMedian: axisPercentile(extentsMm, 0.5),
    extentMmPercentile99: axisPercentile(extentsMm, 0.99),
    foreground: foregroundStatistics(cases),
    labels: labelCases(cases),
  };
}

function smallest(voxels: Float32Array): number {
  let least = Number.POSITIVE_INFINITY;
  for (let index = 0; index < voxels.length; index += 1) least = Math.min(least, voxels[index] ?? 0);
  return least;
}

function foregroundSample({ voxels }: Volume, labelmap: Labelmap): Float32Array {
  const foregroundCount = labelmap.voxels.length - (labelCounts(labelmap)[0] ?? 0);
  const step = Math.max(1, Math.ceil(foregroundCount / FOREGROUND_SAMPLE_PER_CASE));
  const sample = new Float32Array(Math.ceil(foregroundCount / step));
  let seen = 0;
  for (let index = 0; index < voxels.length; index += 1) {
    if (labelmap.voxels[index] === 0) continue;
    if (seen % step === 0) sample[seen / step] = voxels[index] ?? 0;
    seen += 1;
  }
  return sample;
}

/** CT are the cases that reach below what MR can hold. */
function guessedModality(cases: readonly CaseFingerprint[]): Modality {
  const count = cases.filter(({ intensityMin }) => intensityMin < CT_INTENSITY_BELOW).length;
  if (count === 0) return "MR";
  return count === cases.length ? "CT" : "mixed";
}

function foregroundStatistics(cases: readonly CaseFingerprint[]): CohortFingerprint["foreground"] {
  const pooled = pooledSample(cases.map(({ foregroundSample: sample }) => sample));
  if (pooled.length === 0) return null;
  const mean = pooled.reduce((sum, value) => sum + value, 0) / pooled.length;
  const variance = pooled.reduce((sum, value) => sum + (value - mean) ** 2, 0) / pooled.length;
  const [low, high] = percentiles(pooled, [0.005, 0.995]);
  return {
    mean,
    std: Math.sqrt(variance),
    percentile00_5: expectDefined(low, "lower percentile"),
    percentile99_5: expectDefined(high, "upper percentile"),
  };
}

/** All samples one after another, thinned out evenly where they are more than the bound. */
function pooledSample(samples: readonly Float32Array[]): Float64Array {
  const total = samples.reduce((sum, sample) => sum + sample.length, 0);
  const step = Math.max(1, Math.ceil(total / FOREGROUND_SAMPLE_MAX));
  const pooled = new Float64Array(Math.ceil(total / step));
  let position = 0;
  for (const sample of samples) {
    for (const value of sample) {
      if (position % step === 0) pooled[position / step] = value;
      position += 1;
    }
  }
  return pooled;
}

function labelCases(cases: readonly CaseFingerprint[]): CohortFingerprint["labels"] {
  const counts = new Map<number, number>();
  for (const { labels } of cases) {
    for (const label of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  return [...counts].sort(([a], [b]) => a - b).map(([label, count]) => ({ label, cases: count }));
}

function axisPercentile(values: readonly Vec3[], share: number): [number, number, number] {
  return perAxis((axis) =>
    percentile(
      Float64Array.from(values, (triple) => triple[axis]),
      share,
    ),
  );
}

function perAxis(measure: (axis: Axis) => number): [number, number, number] {
  const [r, a, s] = AXES;
  return [measure(r), measure(a), measure(s)];
}
