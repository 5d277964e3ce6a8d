// From a volume to a label map on the volume's own grid, given a function that segments a batch of patches. It knows
// nothing of networks: tiles, batches, mirroring and the way back are all that happens here.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import type { PreprocessingPlan } from "@consilium/shared/model/preprocessing-plan.ts";
import type { Labelmap, Volume } from "../data/volume.ts";
import { type MirrorAxis, mirror } from "../preprocessing/augment-geometry.ts";
import { cutPatch } from "../preprocessing/patch-sampling.ts";
import { prepare, type Slice } from "../preprocessing/prepare.ts";
import { LabelRestorer } from "../preprocessing/restore.ts";
import { gaussianWeights, patchStarts } from "./sliding-window.ts";

/** Size of a batch: images are [count, height, width, channels], channels fastest. */
export interface BatchShape {
  readonly count: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
}

/** @returns probabilities [count, height, width, classes], classes fastest. */
export type Segment = (images: Float32Array, shape: BatchShape) => Promise<Float32Array>;

export interface PredictionOptions {
  readonly plan: PreprocessingPlan;
  /** Label of each class, background first. */
  readonly labels: readonly number[];
  /** Patches segmented at once. */
  readonly batchSize: number;
  /** Axes along which predictions are also made on the mirror image and averaged. */
  readonly mirrorAxes: readonly MirrorAxis[];
  readonly segment: Segment;
}

export async function predictVolume(volume: Volume, options: PredictionOptions): Promise<Labelmap> {
  const { slices, geometry } = prepare(volume, null, options.plan);
  const restorer = new LabelRestorer(geometry, options.labels);
  for await (const probabilities of predictSlices(slices, options)) restorer.add(probabilities);
  return restorer.finish();
}

/** Probabilities [height, width, classes] of each slice in turn. */
export async function* predictSlices(
  slices: readonly Slice[],
  options: PredictionOptions,
): AsyncGenerator<Float32Array> {
  const classCount = options.labels.length;
  const jobs = slices.flatMap((slice, index) => tilesOf(slice, index, options));
  const weights = gaussianWeights(options.plan.patch.height, options.plan.patch.width);
  let blend: Blend | null = null;
  for (let start = 0; start < jobs.length; start += options.batchSize) {
    const batch = jobs.slice(start, start + options.batchSize);
    const probabilities = await segmentBatch(batch, options);
    for (const [index, job] of batch.entries()) {
      if (blend?.sliceIndex !== job.sliceIndex) {
        if (blend) yield finished(blend, classCount);
        blend = emptyBlend(
          expectDefined(slices[job.sliceIndex], "slice of a tile"),
          job.sliceIndex,
          classCount,
        );
      }
      const size = job.patch.height * job.patch.width * classCount;
      addTile(blend, job, {
        probabilities: probabilities.subarray(index * size, (index + 1) * size),
        weights,
      });
    }
  }
  if (blend) yield finished(blend, classCount);
}

/** One patch of one slice, possibly mirrored. */
interface Tile {
  readonly sliceIndex: number;
  readonly top: number;
  readonly left: number;
  readonly axes: readonly MirrorAxis[];
  readonly patch: { readonly height: number; readonly width: number };
  readonly cut: () => Slice;
}

function tilesOf(slice: Slice, sliceIndex: number, { plan, mirrorAxes }: PredictionOptions): Tile[] {
  const { patch } = plan;
  const variants = mirrorVariants(mirrorAxes);
  return patchStarts(slice.height, patch.height).flatMap((top) =>
    patchStarts(slice.width, patch.width).flatMap((left) =>
      variants.map((axes): Tile => {
        const cut = (): Slice => turned(cutPatch(slice, { top, left, ...patch }), axes);
        return { sliceIndex, top, left, axes, patch, cut };
      }),
    ),
  );
}

function turned(patch: Slice, axes: readonly MirrorAxis[]): Slice {
  return axes.length > 0 ? mirror(patch, axes) : patch;
}

/** Every combination of the axes, the plain picture first. */
function mirrorVariants(axes: readonly MirrorAxis[]): readonly (readonly MirrorAxis[])[] {
  const variants: (readonly MirrorAxis[])[] = [[]];
  for (const axis of axes) variants.push(...variants.map((set) => [...set, axis]));
  return variants;
}

async function segmentBatch(
  batch: readonly Tile[],
  { plan, labels, segment }: PredictionOptions,
): Promise<Float32Array> {
  const patches = batch.map((tile) => tile.cut());
  const channels = expectDefined(patches[0], "a batch holds a patch").channels;
  const { height, width } = plan.patch;
  const images = new Float32Array(batch.length * height * width * channels);
  for (const [index, patch] of patches.entries()) images.set(patch.image, index * height * width * channels);
  const probabilities = await segment(images, { count: batch.length, height, width, channels });
  assert(
    probabilities.length === batch.length * height * width * labels.length,
    "a segmentation has one probability per pixel and class",
  );
  return probabilities;
}

/** Weighted sums of the tiles of one slice. */
interface Blend {
  readonly sliceIndex: number;
  readonly height: number;
  readonly width: number;
  readonly sums: Float32Array;
  readonly weights: Float32Array;
}

function emptyBlend({ height, width }: Slice, sliceIndex: number, classCount: number): Blend {
  const sums = new Float32Array(height * width * classCount);
  return { sliceIndex, height, width, sums, weights: new Float32Array(height * width) };
}

function addTile(
  blend: Blend,
  tile: Tile,
  { probabilities, weights }: { probabilities: Float32Array; weights: Float32Array },
): void {
  const { height, width } = tile.patch;
  const classCount = probabilities.length / (height * width);
  for (let row = 0; row < height; row += 1) {
    const fromRow = tile.axes.includes("row") ? height - 1 - row : row;
    for (let column = 0; column < width; column += 1) {
      const fromColumn = tile.axes.includes("column") ? width - 1 - column : column;
      const weight = weights[row * width + column] ?? 0;
      const to = (tile.top + row) * blend.width + tile.left + column;
      const from = (fromRow * width + fromColumn) * classCount;
      blend.weights[to] = (blend.weights[to] ?? 0) + weight;
      for (let index = 0; index < classCount; index += 1) {
        const at = to * classCount + index;
        blend.sums[at] = (blend.sums[at] ?? 0) + weight * (probabilities[from + index] ?? 0);
      }
    }
  }
}

function finished({ sums, weights }: Blend, classCount: number): Float32Array {
  return sums.map((sum, index) => sum / (weights[Math.floor(index / classCount)] ?? 1));
}
