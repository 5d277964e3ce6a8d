// One preprocessing plan for a study from the fingerprints of its sites: median spacing, a patch that holds nearly every
// volume, the normalisation that suits the modality (after nnU-Net's rules, reduced to slices). Sites count by their
// number of cases.

import { assert } from "../base/assert.ts";
import type { CohortFingerprint } from "./cohort-fingerprint.ts";
import {
  type Normalisation,
  PATCH_EDGE_MIN,
  type PreprocessingPlan,
  type SliceAxis,
} from "./preprocessing-plan.ts";

/** A value along each of R, A and S. */
type Vec3 = readonly [number, number, number];

export interface PlanningOptions {
  /** Times the network halves its input: patch edges are multiples of 2 ** poolings. */
  readonly poolings: number;
  /** Longest patch edge; larger slices are covered by windows. */
  readonly patchEdgeMax: number;
  readonly contextSlices: 0 | 1;
}

/** Spacings that differ by less than this share count as one: resampling would gain nothing. */
const SPACING_TOLERANCE = 0.05;
/** Below this ratio of slice distance to pixel size a volume is isotropic and is cut axially. */
const ISOTROPY_RATIO_MAX = 1.5;

export function planPreprocessing(
  fingerprints: readonly CohortFingerprint[],
  options: PlanningOptions,
): PreprocessingPlan {
  assert(fingerprints.length > 0, "a plan is made from at least one fingerprint");
  const spacingMm = perAxis((axis) =>
    weightedMedian(fingerprints, ({ spacingMmMedian }) => spacingMmMedian[axis]),
  );
  const sliceAxis = chosenSliceAxis(spacingMm);
  const inPlaneSpacingMm = chosenInPlaneSpacing(fingerprints, sliceAxis);
  const extentMm = perAxis((axis) => Math.max(...fingerprints.map((one) => one.extentMmPercentile99[axis])));
  const [, rowsMm, columnsMm] = inPlaneOrder(extentMm, sliceAxis);
  const [, rowMm, columnMm] = inPlaneOrder(spacingMm, sliceAxis);
  const height = patchEdge(rowsMm / (inPlaneSpacingMm ?? rowMm), options);
  const width = patchEdge(columnsMm / (inPlaneSpacingMm ?? columnMm), options);
  return {
    orientation: "RAS",
    sliceAxis,
    inPlaneSpacingMm,
    throughPlaneSpacingMm: null, // Slices are seen one at a time: their distance need not be common.
    imageOrder: 3,
    patch: { height: height.edge, width: width.edge },
    largerThanPatch: height.isCapped || width.isCapped ? "window" : "crop",
    padding: "minimum",
    contextSlices: options.contextSlices,
    normalisation: chosenNormalisation(fingerprints),
  };
}

/** Across the coarsest axis, where the volume is not nearly isotropic. */
function chosenSliceAxis(spacingMm: Vec3): SliceAxis {
  const [r, a, s] = spacingMm;
  if (Math.max(r, a, s) / Math.min(r, a, s) <= ISOTROPY_RATIO_MAX) return "S";
  if (s >= r && s >= a) return "S";
  return r >= a ? "R" : "A";
}

/** Null where every site already has the same square pixels. */
function chosenInPlaneSpacing(
  fingerprints: readonly CohortFingerprint[],
  sliceAxis: SliceAxis,
): number | null {
  const pixelMm = (one: CohortFingerprint): number => {
    const [, row, column] = inPlaneOrder(one.spacingMmMedian, sliceAxis);
    return Math.sqrt(row * column);
  };
  const median = weightedMedian(fingerprints, pixelMm);
  const isCommon = fingerprints.every((one) =>
    inPlaneOrder(one.spacingMmMedian, sliceAxis)
      .slice(1)
      .every((spacing) => Math.abs(spacing / median - 1) <= SPACING_TOLERANCE),
  );
  return isCommon ? null : Number(median.toFixed(3));
}

function patchEdge(pixels: number, options: PlanningOptions): { edge: number; isCapped: boolean } {
  const unit = Math.max(PATCH_EDGE_MIN, 2 ** options.poolings);
  const wanted = Math.ceil(pixels / unit) * unit;
  const edgeMax = Math.max(unit, Math.floor(options.patchEdgeMax / unit) * unit);
  return { edge: Math.min(wanted, edgeMax), isCapped: wanted > edgeMax };
}

/** The CT rule needs a study that is all CT and has contours; everything else is normalised volume by volume. */
function chosenNormalisation(fingerprints: readonly CohortFingerprint[]): Normalisation {
  const known = fingerprints.flatMap(({ cases, foreground }) =>
    foreground ? [{ cases, ...foreground }] : [],
  );
  if (known.length === 0 || fingerprints.some(({ modality }) => modality !== "CT")) return { kind: "zscore" };
  const caseCount = known.reduce((sum, { cases }) => sum + cases, 0);
  const average = (value: (one: (typeof known)[number]) => number): number =>
    known.reduce((sum, one) => sum + one.cases * value(one), 0) / caseCount;
  const mean = average((one) => one.mean);
  const std = Math.sqrt(average((one) => one.std ** 2 + (one.mean - mean) ** 2));
  if (!(std > 0)) return { kind: "zscore" };
  // Averaged percentiles stand in for those of the pooled voxels, which no site may send; for one site they are equal.
  return {
    kind: "ct",
    low: average((one) => one.percentile00_5),
    high: average((one) => one.percentile99_5),
    mean,
    std,
  };
}

/** [along the slice axis, down the rows, along the columns] of a slice as a radiologist sees it. */
function inPlaneOrder([r, a, s]: Vec3, sliceAxis: SliceAxis): Vec3 {
  const orders = { R: [r, s, a], A: [a, s, r], S: [s, a, r] } as const;
  return orders[sliceAxis];
}

/** The value at which half of all cases are reached. */
function weightedMedian(
  fingerprints: readonly CohortFingerprint[],
  value: (one: CohortFingerprint) => number,
): number {
  const rows = fingerprints.map((one) => ({ value: value(one), cases: one.cases }));
  rows.sort((a, b) => a.value - b.value);
  const half = rows.reduce((sum, { cases }) => sum + cases, 0) / 2;
  let reached = 0;
  for (const row of rows) {
    reached += row.cases;
    if (reached >= half) return row.value;
  }
  return rows[0]?.value ?? Number.NaN;
}

function perAxis(measure: (axis: 0 | 1 | 2) => number): Vec3 {
  return [measure(0), measure(1), measure(2)];
}
