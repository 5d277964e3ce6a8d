// The way back from slices to the input's own grid: crop and padding are undone, class probabilities are interpolated
// linearly, the most probable class wins, and the axes are turned back. Slices come one at a time and two are held, so
// that memory does not grow with the number of slices times classes.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import { type Labelmap, makeLabelmap } from "../data/volume.ts";
import { fromCanonical } from "./orientation.ts";
import type { PreparedGeometry } from "./prepare.ts";
import { type LinearTaps, linearTaps, resample, samplePositions } from "./resample.ts";
import { placePlane, planeSize, uncutSlice } from "./slice-stack.ts";

/** Takes a case's predicted slices in order and makes a label map on exactly the input's shape and affine. */
export class LabelRestorer {
  readonly #geometry: PreparedGeometry;
  readonly #labels: readonly number[];
  /** Which slices each slice of the input's grid lies between. */
  readonly #across: LinearTaps;
  readonly #winners: Uint8Array;
  #previous = new Float32Array(0);
  #slicesTaken = 0;
  #planesDone = 0;

  /** @param labels label of each class; the first is background, which is also what lies outside the slices. */
  constructor(geometry: PreparedGeometry, labels: readonly number[]) {
    const { canonicalShape, stack, isAnisotropic } = geometry;
    const from = planeSize(stack.shape, stack.sliceAxis).sliceCount;
    const to = planeSize(canonicalShape, stack.sliceAxis).sliceCount;
    this.#geometry = geometry;
    this.#labels = labels;
    this.#across = linearTaps(samplePositions(from, to, "halfPixel"), from, isAnisotropic ? 0 : 1);
    this.#winners = new Uint8Array(canonicalShape[0] * canonicalShape[1] * canonicalShape[2]);
  }

  /** @param probabilities of the next slice, [height, width, classes], classes fastest. */
  add(probabilities: Float32Array): void {
    const current = this.#onInputPlane(probabilities);
    const { first, second, weight } = this.#across;
    while (this.#planesDone < weight.length) {
      const share = weight[this.#planesDone] ?? 0;
      const needed = (share > 0 ? second : first)[this.#planesDone] ?? 0;
      if (needed > this.#slicesTaken) break;
      const below = first[this.#planesDone] === this.#slicesTaken ? current : this.#previous;
      this.#place(winningLabels({ below, above: current, share }, this.#labels));
    }
    this.#previous = current;
    this.#slicesTaken += 1;
  }

  /** All slices must have been added. */
  finish(): Labelmap {
    assert(this.#planesDone === this.#across.weight.length, "every slice has its prediction");
    const { input, axes } = this.#geometry;
    return makeLabelmap(input, fromCanonical(this.#winners, input.shape, axes));
  }

  /** Probabilities over the plane of the input's grid, [rows, columns, classes] in canonical order. */
  #onInputPlane(probabilities: Float32Array): Float32Array<ArrayBuffer> {
    const { stack, canonicalShape } = this.#geometry;
    const classCount = this.#labels.length;
    const outside = new Float32Array(classCount);
    outside[0] = 1;
    const from = planeSize(stack.shape, stack.sliceAxis);
    const to = planeSize(canonicalShape, stack.sliceAxis);
    const plane = resample(uncutSlice(probabilities, stack, outside), {
      from: [classCount, from.width, from.height],
      to: [classCount, to.width, to.height],
      orders: [0, 1, 1],
    });
    return new Float32Array(plane);
  }

  #place(plane: Uint8Array): void {
    const { canonicalShape: shape, stack } = this.#geometry;
    placePlane(plane, { volume: this.#winners, shape, sliceAxis: stack.sliceAxis, index: this.#planesDone });
    this.#planesDone += 1;
  }
}

/** One call for a case whose predictions are all at hand. */
export function restoreLabels(
  probabilities: readonly Float32Array[],
  geometry: PreparedGeometry,
  labels: readonly number[],
): Labelmap {
  const restorer = new LabelRestorer(geometry, labels);
  for (const slice of probabilities) restorer.add(slice);
  return restorer.finish();
}

interface Blend {
  readonly below: Float32Array;
  readonly above: Float32Array;
  /** Weight of `above`. */
  readonly share: number;
}

/** The label of the most probable class of each pixel; of equals, the earlier class. */
function winningLabels({ below, above, share }: Blend, labels: readonly number[]): Uint8Array {
  const classCount = labels.length;
  const winners = new Uint8Array(below.length / classCount);
  for (let pixel = 0; pixel < winners.length; pixel += 1) {
    let winner = 0;
    let best = Number.NEGATIVE_INFINITY;
    for (let index = 0; index < classCount; index += 1) {
      const low = below[pixel * classCount + index] ?? 0;
      const value = low + share * ((above[pixel * classCount + index] ?? 0) - low);
      if (value <= best) continue;
      best = value;
      winner = index;
    }
    winners[pixel] = expectDefined(labels[winner], "label of a class");
  }
  return winners;
}
