// MaxPoolGrad. The stock kernel starts its search at the smallest positive number, so it sends the gradient of a window
// without positive numbers to the wrong place. Here the first largest number of a window receives it.

import { tf } from "../tensors.ts";
import { attribute, input, isEmpty, type TrainingKernel, zeros } from "./kernel-registry.ts";

type Shape4 = [number, number, number, number];

export const maxPoolGradient: TrainingKernel = {
  name: "MaxPoolGrad",
  compute(context, inputs, attributes) {
    const [dy, x] = [input(inputs, "dy"), input(inputs, "input")];
    const info = tf.backend_util.computePool2DInfo(
      [...x.shape] as Shape4, // The framework checked the rank.
      attribute(attributes, "filterSize"),
      attribute(attributes, "strides"),
      1,
      attribute(attributes, "pad"),
      attribute(attributes, "dimRoundingMode"),
    );
    const gradient = zeros(context, x.shape);
    if (isEmpty(x, dy)) return gradient;
    const [from, to, out] = [
      context.heap.float32(x),
      context.heap.float32(gradient),
      context.heap.float32(dy),
    ];
    // Where the channels of each pixel of a window begin.
    const pixels = new Int32Array(info.effectiveFilterHeight * info.effectiveFilterWidth);
    let next = 0;
    for (let image = 0; image < info.batchSize; image += 1) {
      for (let y = 0; y < info.outHeight; y += 1) {
        for (let column = 0; column < info.outWidth; column += 1) {
          const count = windowPixels(pixels, info, { image, y, column });
          for (let channel = 0; channel < info.inChannels; channel += 1) {
            let place = (pixels[0] ?? 0) + channel;
            let largest = from[place] ?? 0;
            for (let pixel = 1; pixel < count; pixel += 1) {
              const candidate = (pixels[pixel] ?? 0) + channel;
              const value = from[candidate] ?? 0;
              if (value > largest) {
                place = candidate;
                largest = value;
              }
            }
            to[place] = (to[place] ?? 0) + (out[next] ?? 0);
            next += 1;
          }
        }
      }
    }
    return gradient;
  },
};

type Window = { readonly image: number; readonly y: number; readonly column: number };

/** Those that lie in the image, row by row. @returns their number, at least one */
function windowPixels(
  pixels: Int32Array,
  info: tf.backend_util.Conv2DInfo,
  { image, y: row, column }: Window,
): number {
  const { inHeight, inWidth, inChannels, padInfo } = info;
  const top = row * info.strideHeight - padInfo.top;
  const left = column * info.strideWidth - padInfo.left;
  let count = 0;
  for (let y = Math.max(0, top); y < Math.min(inHeight, top + info.effectiveFilterHeight); y += 1) {
    for (let x = Math.max(0, left); x < Math.min(inWidth, left + info.effectiveFilterWidth); x += 1) {
      pixels[count] = ((image * inHeight + y) * inWidth + x) * inChannels;
      count += 1;
    }
  }
  return count;
}
