// What the prompter sees in a stack of slices of its patch's size.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { type Predictor, SLICES_AT_ONCE, segmentSlices } from "../../models/segment-slices.ts";
import { type PrompterOutput, prompterOutput } from "../../prompts/prompter-output.ts";
import type { TrainingSlice } from "../../training/training-slice.ts";

export async function prompterOnClip(
  prompter: Predictor,
  slices: readonly TrainingSlice[],
): Promise<PrompterOutput> {
  const { height, width, channels } = expectDefined(slices[0], "a clip has a slice");
  const count = slices.length;
  const images = new Float32Array(count * height * width * channels);
  slices.forEach(({ image }, index) => {
    images.set(image, index * height * width * channels);
  });
  const shares = await segmentSlices(prompter, images, { count, height, width, channels }, SLICES_AT_ONCE);
  return prompterOutput(shares, { depth: count, height, width, classCount: prompter.classCount });
}
