// Depth-wise convolution, which the stock backend computes slowly for filters beyond 5 by 5, and its two gradients, which
// it lacks. The input gradient is the convolution with the reversed filter. Gradients refuse channel multipliers, dilation
// and, for the input, strides other than 1: no model here has them.

import { BackendError } from "../backend-error.ts";
import { tf } from "../tensors.ts";
import { type ConvolutionGeometry, convolutionGeometry } from "./convolution-geometry.ts";
import { borderedBytes, convolutionWindow, copyWithBorder, hasBorder, inputSize } from "./image-window.ts";
import {
  attribute,
  input,
  inputTensor,
  isEmpty,
  type KernelAttributes,
  type KernelContext,
  type TrainingKernel,
  zeros,
} from "./kernel-registry.ts";
import { FLOAT_BYTES, type PixelDistances } from "./products.ts";

const VECTOR_CHANNELS = 4;

const convolution: TrainingKernel = {
  name: "DepthwiseConv2dNative",
  compute(context, inputs, attributes, stock) {
    const [x, filter] = [input(inputs, "x"), input(inputs, "filter")];
    const geometry = plainGeometry(x.shape, filter.shape, attributes);
    if (geometry === undefined || geometry.inChannels % VECTOR_CHANNELS !== 0) {
      return stock?.() ?? unsupportedDepthwise();
    }
    const { heap, module } = context;
    const { images, outHeight, outWidth, inChannels: channels } = geometry;
    const output = heap.output([images, outHeight, outWidth, channels]);
    if (isEmpty(x, filter, output)) return output;
    const size = inputSize(geometry);
    const bordered = hasBorder(geometry);
    heap.lend({ padded: bordered ? borderedBytes(size, geometry) : 0 }, ({ padded }) => {
      const plain = heap.pointer(x);
      if (bordered) copyWithBorder(context, { from: plain, to: padded, size, border: geometry });
      const image = bordered ? padded : plain;
      const { from, to, segmentBytes, ...window } = convolutionWindow(geometry, channels);
      module.depthwise_convolve(
        ...([image, heap.pointer(filter), heap.pointer(output)] as const),
        ...([window.images, window.rows, window.pixels] as const),
        ...distancesOf({ from, to }),
        ...([geometry.kernelHeight, geometry.kernelWidth, segmentBytes, channels] as const),
      );
    });
    return output;
  },
};

const inputGradient: TrainingKernel = {
  name: "DepthwiseConv2dNativeBackpropInput",
  compute(_context, inputs, attributes) {
    const [dy, filter] = [inputTensor(inputs, "dy"), inputTensor(inputs, "filter")];
    const geometry = depthwiseGeometry(attribute(attributes, "inputShape"), filter.shape, attributes);
    const { kernelHeight, kernelWidth, strideHeight, strideWidth } = geometry;
    if (strideHeight * strideWidth !== 1) unsupportedDepthwise();
    const before = [kernelHeight - 1 - geometry.top, kernelWidth - 1 - geometry.left] as const;
    const behind = [kernelHeight - 1 - geometry.bottom, kernelWidth - 1 - geometry.right] as const;
    if (Math.min(...before, ...behind) < 0) unsupportedDepthwise();
    return tf.tidy(() => {
      const margins: [number, number][] = [
        [0, 0],
        [before[0], behind[0]],
        [before[1], behind[1]],
        [0, 0],
      ];
      const spread = tf.pad(dy, margins) as tf.Tensor4D; // Padding keeps the rank, which the framework checked.
      return tf.depthwiseConv2d(spread, tf.reverse(filter, [0, 1]) as tf.Tensor4D, 1, "valid"); // As above.
    });
  },
};

const filterGradient: TrainingKernel = {
  name: "DepthwiseConv2dNativeBackpropFilter",
  compute(context, inputs, attributes) {
    const [x, dy] = [input(inputs, "x"), input(inputs, "dy")];
    const shape = attribute<number[]>(attributes, "filterShape");
    const geometry = depthwiseGeometry(x.shape, shape, attributes);
    const gradient = zeros(context, shape);
    if (isEmpty(x, dy, gradient)) return gradient;
    const { heap, module } = context;
    const { images, inHeight, inWidth, outHeight, outWidth, inChannels, kernelHeight, kernelWidth } =
      geometry;
    const channels = Math.ceil(inChannels / VECTOR_CHANNELS) * VECTOR_CHANNELS;
    const wide = { ...geometry, inChannels: channels };
    const size = { images, height: inHeight, width: inWidth, channels };
    const [inPixels, outPixels] = [images * inHeight * inWidth, images * outHeight * outWidth];
    const bytes = {
      x: FLOAT_BYTES * inPixels * channels,
      dy: FLOAT_BYTES * outPixels * channels,
      bordered: borderedBytes(size, geometry),
      gradient: FLOAT_BYTES * kernelHeight * kernelWidth * channels,
    };
    heap.lend(bytes, (at) => {
      const channelCounts = { from: inChannels, to: channels };
      widenChannels(context, heap.pointer(x), at.x, inPixels, channelCounts);
      widenChannels(context, heap.pointer(dy), at.dy, outPixels, channelCounts);
      copyWithBorder(context, { from: at.x, to: at.bordered, size, border: geometry });
      const { from, to, rows, pixels, segmentBytes } = convolutionWindow(wide, channels);
      module.depthwise_filter_gradient(
        ...([at.bordered, at.dy, at.gradient, images, rows, pixels] as const),
        ...distancesOf({ from, to }),
        ...([kernelHeight, kernelWidth, segmentBytes, channels] as const),
      );
      const [rowBytes, wideBytes] = [FLOAT_BYTES * inChannels, FLOAT_BYTES * channels];
      module.copy_rows(
        at.gradient,
        heap.pointer(gradient),
        kernelHeight * kernelWidth,
        rowBytes,
        wideBytes,
        rowBytes,
      );
    });
    return gradient;
  },
};

export const depthwiseKernels: readonly TrainingKernel[] = [convolution, inputGradient, filterGradient];

function depthwiseGeometry(
  inShape: readonly number[],
  filterShape: readonly number[],
  attributes: KernelAttributes,
): ConvolutionGeometry {
  return plainGeometry(inShape, filterShape, attributes) ?? unsupportedDepthwise();
}

/** Undefined with several filters a channel, dilation or channels first. */
function plainGeometry(
  inShape: readonly number[],
  filterShape: readonly number[],
  attributes: KernelAttributes,
): ConvolutionGeometry | undefined {
  if (filterShape[3] !== 1) return undefined;
  // The sizes of a depth-wise convolution are those of one with a filter for each channel.
  const channels = inShape[3] ?? 0;
  const full = [filterShape[0] ?? 0, filterShape[1] ?? 0, channels, channels];
  return convolutionGeometry(inShape, full, { dataFormat: "NHWC", ...attributes });
}

type WindowDistances = { readonly from: PixelDistances; readonly to: PixelDistances };

function distancesOf({ from, to }: WindowDistances) {
  const input = [from.imageBytes, from.rowBytes, from.pixelBytes] as const;
  return [...input, to.imageBytes, to.rowBytes, to.pixelBytes] as const;
}

function widenChannels(
  { module }: KernelContext,
  from: number,
  to: number,
  pixels: number,
  channels: { readonly from: number; readonly to: number },
): void {
  const [fromBytes, toBytes] = [FLOAT_BYTES * channels.from, FLOAT_BYTES * channels.to];
  if (fromBytes !== toBytes) module.clear(to, pixels * toBytes);
  module.copy_rows(from, to, pixels, fromBytes, fromBytes, toBytes);
}

function unsupportedDepthwise(): never {
  const form = "undilated depth-wise convolutions with one filter a channel and stride 1";
  throw new BackendError("backend.unsupported-shape", `The wasm backend computes gradients of ${form} only.`);
}
