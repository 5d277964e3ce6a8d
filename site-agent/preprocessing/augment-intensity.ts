// Changes to a slice's intensities, each in place on an image that the caller owns. Contrast and gamma act on each
// channel by itself and keep what nnU-Net keeps: the range, or mean and deviation.

import type { Prng } from "@consilium/shared/base/prng.ts";
import type { Slice } from "./prepare.ts";
import { resample } from "./resample.ts";

/** Ranges below this are constant channels: there is nothing to stretch. */
const RANGE_MIN = 1e-7;
/** Blur kernels end at this many deviations. */
const KERNEL_SIGMAS = 3;

export function addNoise({ image }: Slice, variance: number, prng: Prng): void {
  const deviation = Math.sqrt(variance);
  for (let index = 0; index < image.length; index += 1)
    image[index] = (image[index] ?? 0) + deviation * prng.normal();
}

export function scaleBrightness({ image }: Slice, factor: number): void {
  for (let index = 0; index < image.length; index += 1) image[index] = (image[index] ?? 0) * factor;
}

/** Stretches about the mean of each channel, within its former range. */
export function changeContrast(slice: Slice, factor: number): void {
  for (let channel = 0; channel < slice.channels; channel += 1) {
    const { mean, least, most } = channelStatistics(slice, channel);
    changeChannel(slice, channel, (value) => Math.max(least, Math.min(most, mean + factor * (value - mean))));
  }
}

/** Raises each channel, scaled to 0..1, to a power, then gives it its former mean and deviation. */
export function changeGamma(
  slice: Slice,
  { gamma, isInverted }: { gamma: number; isInverted: boolean },
): void {
  const sign = isInverted ? -1 : 1;
  for (let channel = 0; channel < slice.channels; channel += 1) {
    const before = channelStatistics(slice, channel);
    const range = before.most - before.least;
    if (range < RANGE_MIN) continue;
    const least = isInverted ? -before.most : before.least;
    changeChannel(
      slice,
      channel,
      (value) => sign * ((Math.max(0, sign * value - least) / range) ** gamma * range + least),
    );
    const after = channelStatistics(slice, channel);
    const scale = before.std / Math.max(after.std, RANGE_MIN);
    changeChannel(slice, channel, (value) => (value - after.mean) * scale + before.mean);
  }
}

/** Gaussian blur of one channel; edges repeat. */
export function blur(slice: Slice, channel: number, sigmaPixels: number): void {
  const kernel = gaussianKernel(sigmaPixels);
  const plane = channelPlane(slice, channel);
  const rows = convolveRows(plane, { height: slice.height, width: slice.width, kernel });
  const both = convolveColumns(rows, { height: slice.height, width: slice.width, kernel });
  changeChannel(slice, channel, (_, pixel) => both[pixel] ?? 0);
}

/** Samples one channel down to a share of its size (nearest) and back (linear). */
export function lowerResolution(slice: Slice, channel: number, share: number): void {
  const full = [slice.width, slice.height, 1] as const;
  const coarse = [
    Math.max(1, Math.round(slice.width * share)),
    Math.max(1, Math.round(slice.height * share)),
    1,
  ] as const;
  const small = resample(channelPlane(slice, channel), { from: full, to: coarse, orders: [0, 0, 0] });
  const back = resample(small, { from: coarse, to: full, orders: [1, 1, 1] });
  changeChannel(slice, channel, (_, pixel) => back[pixel] ?? 0);
}

function changeChannel(
  { image, channels }: Slice,
  channel: number,
  change: (value: number, pixel: number) => number,
): void {
  for (let index = channel, pixel = 0; index < image.length; index += channels, pixel += 1) {
    image[index] = change(image[index] ?? 0, pixel);
  }
}

function channelPlane({ image, channels }: Slice, channel: number): Float32Array {
  if (channels === 1) return image;
  const plane = new Float32Array(image.length / channels);
  for (let pixel = 0; pixel < plane.length; pixel += 1) plane[pixel] = image[pixel * channels + channel] ?? 0;
  return plane;
}

interface ChannelStatistics {
  readonly mean: number;
  readonly std: number;
  readonly least: number;
  readonly most: number;
}

function channelStatistics({ image, channels }: Slice, channel: number): ChannelStatistics {
  const count = image.length / channels;
  let [sum, least, most] = [0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (let index = channel; index < image.length; index += channels) {
    const value = image[index] ?? 0;
    sum += value;
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  const mean = sum / count;
  let squares = 0;
  for (let index = channel; index < image.length; index += channels)
    squares += ((image[index] ?? 0) - mean) ** 2;
  return { mean, std: Math.sqrt(squares / count), least, most };
}

function gaussianKernel(sigmaPixels: number): Float64Array {
  const radius = Math.max(1, Math.ceil(KERNEL_SIGMAS * sigmaPixels));
  const kernel = Float64Array.from({ length: 2 * radius + 1 }, (_, index) =>
    Math.exp(-((index - radius) ** 2) / (2 * sigmaPixels ** 2)),
  );
  const sum = kernel.reduce((total, weight) => total + weight, 0);
  return kernel.map((weight) => weight / sum);
}

interface Convolution {
  readonly height: number;
  readonly width: number;
  readonly kernel: Float64Array;
}

function convolveRows(plane: Float32Array, { height, width, kernel }: Convolution): Float32Array {
  const radius = (kernel.length - 1) / 2;
  const output = new Float32Array(plane.length);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      let sum = 0;
      for (let tap = 0; tap < kernel.length; tap += 1) {
        const from = Math.max(0, Math.min(width - 1, column + tap - radius));
        sum += (kernel[tap] ?? 0) * (plane[row * width + from] ?? 0);
      }
      output[row * width + column] = sum;
    }
  }
  return output;
}

function convolveColumns(plane: Float32Array, { height, width, kernel }: Convolution): Float32Array {
  const radius = (kernel.length - 1) / 2;
  const output = new Float32Array(plane.length);
  for (let row = 0; row < height; row += 1) {
    for (let tap = 0; tap < kernel.length; tap += 1) {
      const weight = kernel[tap] ?? 0;
      const from = Math.max(0, Math.min(height - 1, row + tap - radius)) * width;
      for (let column = 0; column < width; column += 1) {
        const to = row * width + column;
        output[to] = (output[to] ?? 0) + weight * (plane[from + column] ?? 0);
      }
    }
  }
  return output;
}
