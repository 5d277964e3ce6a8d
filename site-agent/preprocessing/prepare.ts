// A preprocessing plan applied to one case: volume and labels in, slices for the network out, together with what is
// needed to bring a prediction back to the input's own grid.

import { unreachable } from "@consilium/shared/base/assert.ts";
import type { PreprocessingPlan, SliceAxis } from "@consilium/shared/model/preprocessing-plan.ts";
import type { Vec3 } from "../data/affine.ts";
import { type AnatomicalAxes, anatomicalAxes, inAnatomicalOrder } from "../data/anatomical-axes.ts";
import type { Grid } from "../data/grid.ts";
import type { Labelmap, Volume } from "../data/volume.ts";
import { normalise } from "./intensity.ts";
import { toCanonical } from "./orientation.ts";
import { type Orders, resample, type SplineOrder } from "./resample.ts";
import { resampleLabels } from "./resample-labels.ts";
import { cutSlice, inPlaneOrder, planeSize, type StackGeometry } from "./slice-stack.ts";

/** Voxels this many times longer than wide are not interpolated lengthwise (nnU-Net's rule). */
const ANISOTROPY_MAX = 3;

/** One slice as training sees it. */
export interface Slice {
  /** [height, width, channels], channels fastest. */
  readonly image: Float32Array;
  /** [height, width], labels of the study. */
  readonly labels: Uint8Array;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  /** Labels that count in this slice; the others were not drawn in its case. */
  readonly contoured: readonly number[];
}

/** The way from the input's grid to the slices. */
export interface PreparedGeometry {
  readonly input: Grid;
  readonly axes: AnatomicalAxes;
  readonly canonicalShape: Vec3;
  /** Slices are cut from a canonical volume of this shape. */
  readonly stack: StackGeometry;
  /** Whether slices are too far apart to be interpolated between. */
  readonly isAnisotropic: boolean;
}

export interface PreparedCase {
  /** From the right, from the back or from the feet, by the plan's axis. */
  readonly slices: readonly Slice[];
  readonly geometry: PreparedGeometry;
}

/** What is known of a case's contours; nothing where a case is only to be predicted. */
export interface Contours {
  readonly labelmap: Labelmap;
  readonly contoured: readonly number[];
}

export function prepare(volume: Volume, contours: Contours | null, plan: PreprocessingPlan): PreparedCase {
  const geometry = preparedGeometry(volume.grid, plan);
  const images = preparedImages(volume, geometry, plan);
  const labels = contours ? preparedLabels(contours.labelmap, geometry) : null;
  const { height, width } = geometry.stack;
  const slices = images.map(
    (image, index): Slice => ({
      image,
      labels: labels?.[index] ?? new Uint8Array(height * width),
      height,
      width,
      channels: 1 + 2 * plan.contextSlices,
      contoured: contours?.contoured ?? [],
    }),
  );
  return { slices, geometry };
}

/** Where everything will lie, from the grid alone. */
export function preparedGeometry(grid: Grid, plan: PreprocessingPlan): PreparedGeometry {
  const axes = anatomicalAxes(grid.affine);
  const canonicalShape = inAnatomicalOrder(grid.shape, axes);
  const spacingMm = inAnatomicalOrder(grid.spacingMm, axes);
  const targetMm = targetSpacing(spacingMm, plan);
  const size = (axis: 0 | 1 | 2): number =>
    Math.max(1, Math.round((canonicalShape[axis] * spacingMm[axis]) / targetMm[axis]));
  const shape: Vec3 = [size(0), size(1), size(2)];
  const [throughMm, rowMm, columnMm] = inPlaneOrder(spacingMm, plan.sliceAxis);
  const isAnisotropic = throughMm / Math.min(rowMm, columnMm) > ANISOTROPY_MAX;
  return { input: grid, axes, canonicalShape, stack: stackGeometry(shape, plan), isAnisotropic };
}

/** Spline orders along R, A and S: across slices that lie far apart, the nearest slice is taken. */
function ordersFor<Order extends SplineOrder>(
  order: Order,
  sliceAxis: SliceAxis,
  isAnisotropic: boolean,
): readonly [Order | 0, Order | 0, Order | 0] {
  const across = isAnisotropic ? 0 : order;
  switch (sliceAxis) {
    case "R":
      return [across, order, order];
    case "A":
      return [order, across, order];
    case "S":
      return [order, order, across];
    default:
      return unreachable(sliceAxis, "slice axis");
  }
}

function targetSpacing(spacingMm: Vec3, plan: PreprocessingPlan): Vec3 {
  const target: [number, number, number] = [spacingMm[0], spacingMm[1], spacingMm[2]];
  const [slice, row, column] = inPlaneOrder([0, 1, 2], plan.sliceAxis);
  if (plan.throughPlaneSpacingMm !== null) target[slice] = plan.throughPlaneSpacingMm;
  if (plan.inPlaneSpacingMm !== null) {
    target[row] = plan.inPlaneSpacingMm;
    target[column] = plan.inPlaneSpacingMm;
  }
  return target;
}

function stackGeometry(shape: Vec3, { sliceAxis, patch, largerThanPatch }: PreprocessingPlan): StackGeometry {
  const plane = planeSize(shape, sliceAxis);
  if (largerThanPatch === "crop") return { shape, sliceAxis, ...patch };
  const height = Math.max(patch.height, plane.height);
  return { shape, sliceAxis, height, width: Math.max(patch.width, plane.width) };
}

function preparedImages(volume: Volume, geometry: PreparedGeometry, plan: PreprocessingPlan): Float32Array[] {
  const { axes, canonicalShape, stack, isAnisotropic } = geometry;
  const canonical = toCanonical(volume.voxels, volume.grid.shape, axes);
  const orders: Orders = ordersFor(plan.imageOrder, plan.sliceAxis, isAnisotropic);
  const normalised = normalise(canonical, plan.normalisation);
  const resampled = resample(normalised, { from: canonicalShape, to: stack.shape, orders });
  const fill = plan.padding === "zero" ? 0 : smallest(resampled);
  const { sliceCount } = planeSize(stack.shape, plan.sliceAxis);
  const planes = Array.from({ length: sliceCount }, (_, index) =>
    cutSlice(resampled, stack, { index, fill }),
  );
  return planes.map((plane, index) => {
    if (plan.contextSlices === 0) return plane;
    // The first and last slice stand in for the neighbours they lack.
    return interleaved([planes[index - 1] ?? plane, plane, planes[index + 1] ?? plane]);
  });
}

function preparedLabels(labelmap: Labelmap, geometry: PreparedGeometry): Uint8Array[] {
  const { axes, canonicalShape, stack, isAnisotropic } = geometry;
  const canonical = toCanonical(labelmap.voxels, labelmap.grid.shape, axes);
  const orders = ordersFor(1, stack.sliceAxis, isAnisotropic);
  const resampled = resampleLabels(canonical, { from: canonicalShape, to: stack.shape, orders });
  const { sliceCount } = planeSize(stack.shape, stack.sliceAxis);
  return Array.from({ length: sliceCount }, (_, index) => cutSlice(resampled, stack, { index, fill: 0 }));
}

function interleaved(planes: readonly Float32Array[]): Float32Array {
  const size = planes[0]?.length ?? 0;
  const image = new Float32Array(size * planes.length);
  for (const [channel, plane] of planes.entries()) {
    for (let index = 0; index < size; index += 1) image[index * planes.length + channel] = plane[index] ?? 0;
  }
  return image;
}

function smallest(voxels: Float32Array): number {
  let least = Number.POSITIVE_INFINITY;
  for (let index = 0; index < voxels.length; index += 1) least = Math.min(least, voxels[index] ?? 0);
  return least;
}
