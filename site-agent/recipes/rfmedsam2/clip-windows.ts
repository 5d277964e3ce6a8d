// A volume cut into the clips that are refined together, each with what the prompter says about it. The prompter sees
// every slice once, and SAM 2 too as long as slices are as large as the plan's patch; of its answers and features no more
// are held than one clip needs.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { type PrompterOutput, prompterOutput } from "../../prompts/prompter-output.ts";
import type { StackSize } from "../../prompts/slice-size.ts";
import { type StackWindow, stackWindows } from "../../refinement/stitching.ts";
import type { TrainingSlice } from "../../training/training-slice.ts";
import type { StackPredictor } from "../recipe.ts";
import { ClipPort } from "./clip-port.ts";
import type { Rfmedsam2 } from "./model.ts";

export type RefinedWindow = {
  readonly window: StackWindow;
  readonly slices: readonly TrainingSlice[];
  readonly output: PrompterOutput;
  /** Lives until the next window is asked for. */
  readonly port: ClipPort;
};

export type WindowOptions = {
  /** The prompter's probabilities of the same slices. */
  readonly prompter: StackPredictor;
  readonly classCount: number;
  /** Size of a clip; as much of it as the volume has. */
  readonly clip: StackSize;
};

export async function* clipWindows(
  model: Rfmedsam2,
  slices: readonly TrainingSlice[],
  { prompter, classCount, clip }: WindowOptions,
): AsyncGenerator<RefinedWindow> {
  const { height, width } = expectDefined(slices[0], "a volume has a slice");
  const seen = prompter(slices, [...slices.keys()]);
  const planes = new Map<number, Float32Array>();
  let port: ClipPort | undefined;
  try {
    for (const window of stackWindows({ depth: slices.length, height, width }, clip)) {
      await readUpTo(window.slice + window.depth, planes, seen);
      for (const index of planes.keys()) if (index < window.slice) planes.delete(index);
      const own = slices.slice(window.slice, window.slice + window.depth).map((slice) => cut(slice, window));
      const next = new ClipPort(model, own, port && { known: port });
      port?.dispose();
      port = next;
      yield { window, slices: own, output: outputOf(window, planes, { width, classCount }), port };
    }
  } finally {
    port?.dispose();
  }
}

async function readUpTo(
  end: number,
  planes: Map<number, Float32Array>,
  seen: AsyncGenerator<Float32Array>,
): Promise<void> {
  const known = planes.size === 0 ? 0 : Math.max(...planes.keys()) + 1;
  for (let index = known; index < end; index += 1) {
    const { value, done } = await seen.next();
    planes.set(index, expectDefined(done ? undefined : value, "the prompter's answer"));
  }
}

/** The slice itself where the window has its size, so that its features are found again. */
function cut(slice: TrainingSlice, { row, column, height, width }: StackWindow): TrainingSlice {
  if (slice.height === height && slice.width === width) return slice;
  const { channels } = slice;
  const image = new Float32Array(height * width * channels);
  const labels = new Uint8Array(height * width);
  for (let y = 0; y < height; y += 1) {
    const from = (row + y) * slice.width + column;
    labels.set(slice.labels.subarray(from, from + width), y * width);
    image.set(slice.image.subarray(from * channels, (from + width) * channels), y * width * channels);
  }
  return { ...slice, image, labels, height, width };
}

function outputOf(
  { slice, row, column, depth, height, width }: StackWindow,
  planes: ReadonlyMap<number, Float32Array>,
  whole: { readonly width: number; readonly classCount: number },
): PrompterOutput {
  const { classCount } = whole;
  const shares = new Float32Array(depth * height * width * classCount);
  for (let z = 0; z < depth; z += 1) {
    const plane = expectDefined(planes.get(slice + z), "the prompter's answer");
    for (let y = 0; y < height; y += 1) {
      const from = ((row + y) * whole.width + column) * classCount;
      shares.set(plane.subarray(from, from + width * classCount), (z * height + y) * width * classCount);
    }
  }
  return prompterOutput(shares, { depth, height, width, classCount });
}
