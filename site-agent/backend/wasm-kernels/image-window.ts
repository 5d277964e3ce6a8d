// How a filter's window runs over NHWC images on the heap: distances in bytes, and copies with a border of zeros, so
// that a kernel never asks whether a pixel lies inside the image.

import { type ConvolutionGeometry, isPointwise } from "./convolution-geometry.ts";
import type { KernelContext } from "./kernel-registry.ts";
import { FLOAT_BYTES, type PixelDistances, type PixelGrid, type Segments } from "./products.ts";

export type ImageSize = {
  readonly images: number;
  readonly height: number;
  readonly width: number;
  readonly channels: number;
};

export type Border = {
  readonly top: number;
  readonly bottom: number;
  readonly left: number;
  readonly right: number;
};

/** Bytes of the images with their border. */
export function borderedBytes({ images, height, width, channels }: ImageSize, border: Border): number {
  const { top, bottom, left, right } = border;
  return FLOAT_BYTES * images * (top + height + bottom) * (left + width + right) * channels;
}

/** Copy images from address `from` into the middle of their bordered form at `to`. */
export function copyWithBorder(
  { module }: KernelContext,
  copy: { readonly from: number; readonly to: number; readonly size: ImageSize; readonly border: Border },
): void {
  const { from, to, border } = copy;
  const { images, height, width, channels } = copy.size;
  const pixelBytes = FLOAT_BYTES * channels;
  const { top, bottom, left, right } = border;
  const rowBytes = width * pixelBytes;
  module.pad_images(from, to, images, height, rowBytes, top, bottom, left * pixelBytes, right * pixelBytes);
}

export function inputSize({ images, inHeight, inWidth, inChannels }: ConvolutionGeometry): ImageSize {
  return { images, height: inHeight, width: inWidth, channels: inChannels };
}

export function hasBorder({ top, bottom, left, right }: Border): boolean {
  return top + bottom + left + right > 0;
}

/** Distances in images without a border. */
export function distances({ height, width, channels }: Omit<ImageSize, "images">): PixelDistances {
  const pixelBytes = FLOAT_BYTES * channels;
  return { imageBytes: height * width * pixelBytes, rowBytes: width * pixelBytes, pixelBytes };
}

/**
 * The window's run over the input and the output of a convolution. `columnCount` is the number of columns in which an
 * output pixel is stored. A pointwise convolution is one long row of pixels.
 */
export function convolutionWindow(
  geometry: ConvolutionGeometry,
  columnCount: number,
): PixelGrid & Segments & { readonly from: PixelDistances; readonly to: PixelDistances } {
  const { images, outHeight, outWidth, inChannels, kernelHeight, kernelWidth } = geometry;
  const height = geometry.top + geometry.inHeight + geometry.bottom;
  const width = geometry.left + geometry.inWidth + geometry.right;
  const input = distances({ height, width, channels: inChannels });
  const to = distances({ height: outHeight, width: outWidth, channels: columnCount });
  const filter = {
    segments: kernelHeight,
    segmentBytes: input.rowBytes,
    segmentLength: kernelWidth * inChannels,
  };
  if (isPointwise(geometry)) {
    return { images: 1, rows: 1, pixels: images * outHeight * outWidth, ...filter, from: input, to };
  }
  const from = {
    imageBytes: input.imageBytes,
    rowBytes: geometry.strideHeight * input.rowBytes,
    pixelBytes: geometry.strideWidth * input.pixelBytes,
  };
  return { images, rows: outHeight, pixels: outWidth, ...filter, from, to };
}
