// Class logits of overlapping windows as one label map, weighted by a Gaussian about each window's centre, as nnU-Net
// blends its patches. Windows come in the order of their first slice, and slices that no later window can touch are
// handed out at once: memory is that of one window's depth, however deep the volume is.

import { assert } from "@consilium/shared/base/assert.ts";
import { gaussianWeights, patchStarts } from "../evaluation/sliding-window.ts";
import { pixelsOf, type StackSize } from "../prompts/slice-size.ts";
import { winners } from "./merge-objects.ts";

/** Slices that a clip holds at most; the paper's code trace has 32. */
export const CLIP_SLICES_MAX = 32;

export type StackWindow = StackSize & {
  /** First slice, row and column in the volume. */
  readonly slice: number;
  readonly row: number;
  readonly column: number;
};

/** Windows that cover a volume, half a window apart at most, in the order in which the stitcher takes them. */
export function stackWindows(volume: StackSize, window: StackSize): StackWindow[] {
  const size = {
    depth: Math.min(window.depth, volume.depth),
    height: Math.min(window.height, volume.height),
    width: Math.min(window.width, volume.width),
  };
  return patchStarts(volume.depth, size.depth).flatMap((slice) =>
    patchStarts(volume.height, size.height).flatMap((row) =>
      patchStarts(volume.width, size.width).map((column) => ({ ...size, slice, row, column })),
    ),
  );
}

export type StitchedSlice = {
  readonly slice: number;
  /** [classCount, height, width], the weighted mean. */
  readonly logits: Float32Array;
  /** [height, width] */
  readonly classes: Uint8Array;
};

type OpenSlice = { readonly sums: Float32Array; readonly weights: Float32Array };

export class Stitcher {
  readonly #volume: StackSize;
  readonly #classCount: number;
  readonly #open = new Map<number, OpenSlice>();
  #next = 0;

  constructor(volume: StackSize, classCount: number) {
    this.#volume = volume;
    this.#classCount = classCount;
  }

  /**
   * @param logits [classCount, window.depth, window.height, window.width]
   * @returns the slices before this window, which are now complete
   */
  add(window: StackWindow, logits: Float32Array): StitchedSlice[] {
    const { depth, height, width, slice, row, column } = window;
    const volume = this.#volume;
    assert(logits.length === this.#classCount * depth * height * width, "one logit for each class and voxel");
    const fits =
      slice + depth <= volume.depth && row + height <= volume.height && column + width <= volume.width;
    assert(fits && slice >= this.#next, "windows lie in the volume and come in order");
    const finished = this.#finishBefore(slice);
    const bell = gaussianWeights(1, depth);
    const plane = gaussianWeights(height, width);
    for (let z = 0; z < depth; z += 1) {
      this.#addSlice({ window, z, logits, weights: plane.map((weight) => weight * (bell[z] ?? 0)) });
    }
    return finished;
  }

  /** The slices that are left, after the last window. */
  finish(): StitchedSlice[] {
    return this.#finishBefore(this.#volume.depth);
  }

  #addSlice(part: { window: StackWindow; z: number; logits: Float32Array; weights: Float32Array }): void {
    const { window, z, logits, weights } = part;
    const { depth, height, width, row, column } = window;
    const pixels = pixelsOf(this.#volume);
    const open = this.#opened(window.slice + z, pixels);
    for (let y = 0; y < height; y += 1) {
      for (let x = 0; x < width; x += 1) {
        const weight = weights[y * width + x] ?? 0;
        const pixel = (row + y) * this.#volume.width + column + x;
        open.weights[pixel] = (open.weights[pixel] ?? 0) + weight;
        for (let classIndex = 0; classIndex < this.#classCount; classIndex += 1) {
          const logit = logits[((classIndex * depth + z) * height + y) * width + x] ?? 0;
          const at = classIndex * pixels + pixel;
          open.sums[at] = (open.sums[at] ?? 0) + weight * logit;
        }
      }
    }
  }

  #opened(slice: number, pixels: number): OpenSlice {
    const known = this.#open.get(slice);
    if (known !== undefined) return known;
    const open = { sums: new Float32Array(this.#classCount * pixels), weights: new Float32Array(pixels) };
    this.#open.set(slice, open);
    return open;
  }

  #finishBefore(end: number): StitchedSlice[] {
    const finished: StitchedSlice[] = [];
    for (; this.#next < end; this.#next += 1) {
      const open = this.#open.get(this.#next);
      assert(open, "windows cover every slice");
      assert(
        open.weights.every((weight) => weight > 0),
        "windows cover every pixel",
      );
      this.#open.delete(this.#next);
      const pixels = open.weights.length;
      const logits = open.sums.map((sum, at) => sum / (open.weights[at % pixels] ?? 1));
      finished.push({ slice: this.#next, logits, classes: winners(logits, this.#classCount) });
    }
    return finished;
  }
}
