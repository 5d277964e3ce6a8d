// Resampling of a volume to another number of voxels over the same extent: nearest, linear and cubic B-spline, each axis
// with its own order. Cubic follows scipy.ndimage (mode "nearest": edges padded by 12 voxels before the prefilter), the
// half-pixel convention is that of skimage.transform.resize and so of nnU-Net.

import { assert } from "@consilium/shared/base/assert.ts";
import { AXES, type Axis, type Vec3 } from "../data/affine.ts";
import { cubicTaps, prefilterCubic, SPLINE_PADDING } from "./cubic-spline.ts";

export type SplineOrder = 0 | 1 | 3;
export type Orders = readonly [SplineOrder, SplineOrder, SplineOrder];

/** halfPixel keeps the outer edges of the volume in place, align the centres of its outer voxels. */
export type PixelConvention = "halfPixel" | "align";

export interface Resampling {
  /** Voxels along i, j, k before and after; i fastest. */
  readonly from: Vec3;
  readonly to: Vec3;
  readonly orders: Orders;
  readonly convention?: PixelConvention;
}

/** @returns `to[0] * to[1] * to[2]` values; the input itself where the shape stays. */
export function resample(voxels: Float32Array, resampling: Resampling): Float32Array {
  const { from, to, orders, convention = "halfPixel" } = resampling;
  assert(voxels.length === from[0] * from[1] * from[2], "the voxels fill their shape");
  let current = voxels;
  const shape: [number, number, number] = [from[0], from[1], from[2]];
  for (const axis of shrinkingFirst(from, to)) {
    if (shape[axis] === to[axis]) continue;
    const positions = samplePositions(shape[axis], to[axis], convention);
    current = resampleAxis(current, { shape, axis, positions, order: orders[axis] });
    shape[axis] = to[axis];
  }
  return current;
}

/** Where each output voxel lies among the input voxels; may reach half a voxel beyond the first and last. */
export function samplePositions(sizeFrom: number, sizeTo: number, convention: PixelConvention): Float64Array {
  if (convention === "halfPixel") {
    return Float64Array.from({ length: sizeTo }, (_, index) => ((index + 0.5) * sizeFrom) / sizeTo - 0.5);
  }
  const step = sizeTo > 1 ? (sizeFrom - 1) / (sizeTo - 1) : 0;
  return Float64Array.from({ length: sizeTo }, (_, index) => index * step);
}

/** The two neighbours of each position and the weight of the second; order 0 gives the nearest all the weight. */
export interface LinearTaps {
  readonly first: Int32Array;
  readonly second: Int32Array;
  readonly weight: Float64Array;
}

/** @param order 0: floor(position + 0.5), 1: linear; positions are clipped to the volume. */
export function linearTaps(positions: Float64Array, size: number, order: 0 | 1): LinearTaps {
  const first = new Int32Array(positions.length);
  const second = new Int32Array(positions.length);
  const weight = new Float64Array(positions.length);
  positions.forEach((position, index) => {
    const clipped = Math.max(0, Math.min(size - 1, order === 0 ? Math.floor(position + 0.5) : position));
    first[index] = Math.floor(clipped);
    second[index] = Math.min(Math.floor(clipped) + 1, size - 1);
    weight[index] = clipped - Math.floor(clipped);
  });
  return { first, second, weight };
}

/** Axes that lose voxels come first: the later ones then have less to do. */
function shrinkingFirst(from: Vec3, to: Vec3): Axis[] {
  return [...AXES].sort((a, b) => to[a] / from[a] - to[b] / from[b]);
}

interface AxisPass {
  readonly shape: Vec3;
  readonly axis: Axis;
  readonly positions: Float64Array;
  readonly order: SplineOrder;
}

function resampleAxis(voxels: Float32Array, { shape, axis, positions, order }: AxisPass): Float32Array {
  const inner = AXES.filter((other) => other < axis).reduce<number>(
    (product, other) => product * shape[other],
    1,
  );
  const outer = AXES.filter((other) => other > axis).reduce<number>(
    (product, other) => product * shape[other],
    1,
  );
  const block = { inner, outer, size: shape[axis] };
  const output = new Float32Array(inner * outer * positions.length);
  if (order === 3) cubicPass({ voxels, output, block, positions });
  else linearPass({ voxels, output, block, taps: linearTaps(positions, shape[axis], order) });
  return output;
}

/** An array seen as [outer, size, inner]. */
interface Block {
  readonly inner: number;
  readonly outer: number;
  readonly size: number;
}

interface LinearPass {
  readonly voxels: Float32Array;
  readonly output: Float32Array;
  readonly block: Block;
  readonly taps: LinearTaps;
}

function linearPass({ voxels, output, block: { inner, outer, size }, taps }: LinearPass): void {
  const sizeTo = taps.weight.length;
  for (let slab = 0; slab < outer; slab += 1) {
    for (let index = 0; index < sizeTo; index += 1) {
      const first = (slab * size + (taps.first[index] ?? 0)) * inner;
      const second = (slab * size + (taps.second[index] ?? 0)) * inner;
      const weight = taps.weight[index] ?? 0;
      const to = (slab * sizeTo + index) * inner;
      for (let column = 0; column < inner; column += 1) {
        const low = voxels[first + column] ?? 0;
        output[to + column] = low + weight * ((voxels[second + column] ?? 0) - low);
      }
    }
  }
}

interface CubicPass {
  readonly voxels: Float32Array;
  readonly output: Float32Array;
  readonly block: Block;
  readonly positions: Float64Array;
}

function cubicPass({ voxels, output, block: { inner, outer, size }, positions }: CubicPass): void {
  const taps = cubicTaps(positions);
  const sizeTo = positions.length;
  const line = new Float64Array(size + 2 * SPLINE_PADDING);
  for (let slab = 0; slab < outer; slab += 1) {
    for (let column = 0; column < inner; column += 1) {
      const from = slab * size * inner + column;
      for (let index = 0; index < size; index += 1) {
        line[index + SPLINE_PADDING] = voxels[from + index * inner] ?? 0;
      }
      prefilterCubic(line);
      const to = slab * sizeTo * inner + column;
      for (let index = 0; index < sizeTo; index += 1) {
        const start = taps.first[index] ?? 0;
        const tap = index * 4;
        output[to + index * inner] =
          (taps.weights[tap] ?? 0) * (line[start] ?? 0) +
          (taps.weights[tap + 1] ?? 0) * (line[start + 1] ?? 0) +
          (taps.weights[tap + 2] ?? 0) * (line[start + 2] ?? 0) +
          (taps.weights[tap + 3] ?? 0) * (line[start + 3] ?? 0);
      }
    }
  }
}
