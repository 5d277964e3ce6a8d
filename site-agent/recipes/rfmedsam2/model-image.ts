// A prepared slice as SAM 2 sees it: the plan's window of intensities becomes 0 to 1 in three equal channels, stretched
// to the model's square and normalised as the official code does. Inferred: the paper does not say how grey values of a
// CT or MR become a picture.

import { assert } from "@consilium/shared/base/assert.ts";
import { resizedPlane } from "../../prompts/resize-plane.ts";
import type { TrainingSlice } from "../../training/training-slice.ts";

export type IntensityWindow = { readonly low: number; readonly high: number };

/** Of ImageNet, as for every SAM 2 checkpoint. */
const MEAN = [0.485, 0.456, 0.406];
const DEVIATION = [0.229, 0.224, 0.225];

/** @returns [side, side, 3], channels fastest; of a slice with neighbours the slice itself is taken */
export function modelImage(
  { image, height, width, channels }: Pick<TrainingSlice, "image" | "height" | "width" | "channels">,
  side: number,
  { low, high }: IntensityWindow,
): Float32Array {
  assert(channels % 2 === 1, "the slice itself is the middle channel");
  const middle = (channels - 1) / 2;
  const plane = new Float32Array(height * width);
  for (let pixel = 0; pixel < plane.length; pixel += 1) {
    const share = ((image[pixel * channels + middle] ?? 0) - low) / (high - low);
    plane[pixel] = Math.min(Math.max(share, 0), 1);
  }
  const stretched = resizedPlane(plane, { height, width }, { height: side, width: side });
  const picture = new Float32Array(side * side * 3);
  MEAN.forEach((mean, channel) => {
    const deviation = DEVIATION[channel] ?? 1;
    for (let pixel = 0; pixel < stretched.length; pixel += 1)
      picture[pixel * 3 + channel] = ((stretched[pixel] ?? 0) - mean) / deviation;
  });
  return picture;
}
