// The voxel-wise atlas: how often each label lies at each place of the training cases, laid over a new volume. It looks
// at no intensity of the new volume except to find the body's middle. It is the baseline that a trained network has to
// beat.

import { anatomicalAxes, inAnatomicalOrder } from "../data/anatomical-axes.ts";
import { type Labelmap, makeLabelmap, type Volume } from "../data/volume.ts";
import { fromCanonical, toCanonical } from "../preprocessing/orientation.ts";
import { type AtlasAlignment, type AtlasFrame, atlasFrame, forEachPair, placement } from "./atlas-frame.ts";

export interface AtlasCase {
  readonly volume: Volume;
  readonly labelmap: Labelmap;
  readonly contoured: readonly number[];
}

export interface AtlasOptions {
  /** Without background. */
  readonly labels: readonly number[];
  readonly alignment: AtlasAlignment;
  /** Factor on the share of background: below 1, labels win where the cases agree less. */
  readonly backgroundWeight: number;
}

export interface Atlas {
  readonly frame: AtlasFrame;
  readonly alignment: AtlasAlignment;
  /** Most frequent label of each voxel of the frame. */
  readonly winners: Uint8Array;
}

export function buildAtlas(cases: readonly AtlasCase[], options: AtlasOptions): Atlas {
  const frame = atlasFrame(cases.map(({ volume }) => volume));
  const counts = countLabels(cases, frame, options);
  return { frame, alignment: options.alignment, winners: winningLabels([counts], options) };
}

/** @returns labels on the volume's own grid. */
export function predictWithAtlas(volume: Volume, { frame, alignment, winners }: Atlas): Labelmap {
  const axes = anatomicalAxes(volume.grid.affine);
  const shape = inAnatomicalOrder(volume.grid.shape, axes);
  const canonical = new Uint8Array(shape[0] * shape[1] * shape[2]);
  const map = placement(volume, frame, alignment).toFrame;
  forEachPair({ shape, otherShape: frame.shape, map }, (from, to) => {
    canonical[to] = winners[from] ?? 0;
  });
  return makeLabelmap(volume.grid, fromCanonical(canonical, volume.grid.shape, axes));
}

/** For every label, in how many cases it lies at each place, and in how many it is contoured. */
export interface LabelCounts {
  readonly contouredCases: readonly number[];
  /** One array per label, index = voxel of the frame. */
  readonly voxels: readonly Uint16Array[];
  /** The voxels where any label lies in any case: few of all. */
  readonly support: readonly number[];
}

export function countLabels(
  cases: readonly AtlasCase[],
  frame: AtlasFrame,
  { labels, alignment }: Pick<AtlasOptions, "labels" | "alignment">,
): LabelCounts {
  const size = frame.shape[0] * frame.shape[1] * frame.shape[2];
  const voxels = labels.map(() => new Uint16Array(size));
  const contouredCases = labels.map(
    (label) => cases.filter(({ contoured }) => contoured.includes(label)).length,
  );
  const slots = new Int16Array(256).fill(-1);
  for (const [slot, label] of labels.entries()) slots[label] = slot;
  const isInSupport = new Uint8Array(size);
  const support: number[] = [];
  for (const { volume, labelmap } of cases) {
    const axes = anatomicalAxes(volume.grid.affine);
    const canonical = toCanonical(labelmap.voxels, volume.grid.shape, axes);
    const otherShape = inAnatomicalOrder(volume.grid.shape, axes);
    const map = placement(volume, frame, alignment).fromFrame;
    forEachPair({ shape: frame.shape, otherShape, map }, (from, to) => {
      const counts = voxels[slots[canonical[from] ?? 0] ?? -1];
      if (!counts) return;
      counts[to] = (counts[to] ?? 0) + 1;
      if (isInSupport[to] === 0) support.push(to);
      isInSupport[to] = 1;
    });
  }
  return { contouredCases, voxels, support };
}

/** @param parts counts of disjoint groups of cases, taken together. */
export function winningLabels(
  parts: readonly LabelCounts[],
  { labels, backgroundWeight }: Pick<AtlasOptions, "labels" | "backgroundWeight">,
): Uint8Array {
  const cases = labels.map((_, slot) =>
    parts.reduce((sum, part) => sum + (part.contouredCases[slot] ?? 0), 0),
  );
  const winners = new Uint8Array(parts[0]?.voxels[0]?.length ?? 0);
  for (const voxel of parts.flatMap((part) => part.support)) {
    let [winner, best, total] = [0, 0, 0];
    for (let slot = 0; slot < labels.length; slot += 1) {
      let count = 0;
      for (const part of parts) count += part.voxels[slot]?.[voxel] ?? 0;
      const share = count / Math.max(1, cases[slot] ?? 0);
      total += share;
      if (share > best) {
        best = share;
        winner = labels[slot] ?? 0;
      }
    }
    if (best > backgroundWeight * (1 - total)) winners[voxel] = winner;
  }
  return winners;
}
