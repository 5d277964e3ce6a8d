// What the prompter says about a stack of slices: a probability for every class and pixel, and the likeliest class. Both
// the simulated prompts of training and stage 0 of refinement begin here.

import { assert } from "@consilium/shared/base/assert.ts";
import { maskWhere } from "@consilium/shared/base/mask-where.ts";
import { pixelsOf, type SliceSize, type StackSize } from "./slice-size.ts";

export type PrompterOutput = StackSize & {
  /** Background included. */
  readonly classCount: number;
  /** [classCount, depth, height, width] */
  readonly probabilities: Float32Array;
  /** [depth, height, width], index of the likeliest class, of equal ones the first. */
  readonly classes: Uint8Array;
};

/** One object in one slice: `classIndex` counts from 1, background is 0. */
export type ObjectPlace = { readonly classIndex: number; readonly slice: number };

const CLASS_COUNT_MAX = 255;

/** @param channelsLast [depth, height, width, classCount], as a model's softmax gives them */
export function prompterOutput(
  channelsLast: Float32Array,
  size: StackSize & { readonly classCount: number },
): PrompterOutput {
  const { depth, height, width, classCount } = size;
  const voxels = depth * height * width;
  assert(classCount >= 2 && classCount <= CLASS_COUNT_MAX, "background and at least one class");
  assert(channelsLast.length === voxels * classCount, "one probability for each class and voxel");
  const probabilities = new Float32Array(voxels * classCount);
  const classes = new Uint8Array(voxels);
  for (let voxel = 0; voxel < voxels; voxel += 1) {
    let most = 0;
    for (let classIndex = 0; classIndex < classCount; classIndex += 1) {
      const probability = channelsLast[voxel * classCount + classIndex] ?? 0;
      probabilities[classIndex * voxels + voxel] = probability;
      if (probability > (channelsLast[voxel * classCount + most] ?? 0)) most = classIndex;
    }
    classes[voxel] = most;
  }
  return { depth, height, width, classCount, probabilities, classes };
}

/** [height, width], a view. */
export function probabilityPlane(output: PrompterOutput, { classIndex, slice }: ObjectPlace): Float32Array {
  const pixels = pixelsOf(output);
  const start = (classIndex * output.depth + slice) * pixels;
  return output.probabilities.subarray(start, start + pixels);
}

/** Which pixels of a slice belong to an object: those where its class is the likeliest, or those likely enough. */
export type ObjectRule =
  | { readonly kind: "likeliest" }
  | { readonly kind: "threshold"; readonly probability: number };

/** Mask [height, width] of an object in a slice. */
export function prompterMask(output: PrompterOutput, place: ObjectPlace, rule: ObjectRule): Uint8Array {
  if (rule.kind === "likeliest") return classMask(output.classes, output, place);
  return maskWhere(probabilityPlane(output, place), (value) => value >= rule.probability);
}

/** Mask [height, width] of one class in one slice of a stack of class indices. */
export function classMask(
  classes: Uint8Array,
  size: SliceSize,
  { classIndex, slice }: ObjectPlace,
): Uint8Array {
  const pixels = pixelsOf(size);
  const plane = classes.subarray(slice * pixels, (slice + 1) * pixels);
  return maskWhere(plane, (value) => value === classIndex);
}
