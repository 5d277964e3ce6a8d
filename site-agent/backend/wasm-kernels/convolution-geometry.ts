// Sizes of a two-dimensional convolution in NHWC order, and how the gradient of its input falls apart into ordinary
// convolutions without stride: one for every position that an input pixel can have within a stride. Pure arithmetic.

import { BackendError } from "../backend-error.ts";
import { tf } from "../tensors.ts";
import { attribute, type KernelAttributes } from "./kernel-registry.ts";

export type ConvolutionGeometry = {
  readonly images: number;
  readonly inHeight: number;
  readonly inWidth: number;
  readonly inChannels: number;
  readonly outHeight: number;
  readonly outWidth: number;
  readonly outChannels: number;
  readonly kernelHeight: number;
  readonly kernelWidth: number;
  readonly strideHeight: number;
  readonly strideWidth: number;
  readonly top: number;
  readonly bottom: number;
  readonly left: number;
  readonly right: number;
};

/** Undefined for what the stock kernel has to compute: dilation and channels-first order. */
export function convolutionGeometry(
  inShape: readonly number[],
  filterShape: readonly number[],
  attributes: KernelAttributes,
): ConvolutionGeometry | undefined {
  const info = tf.backend_util.computeConv2DInfo(
    [...inShape] as [number, number, number, number], // The framework checked the rank.
    [...filterShape] as [number, number, number, number], // As above.
    attribute(attributes, "strides"),
    attribute<number | undefined>(attributes, "dilations") ?? 1,
    attribute(attributes, "pad"),
    attribute(attributes, "dimRoundingMode"),
    false,
    tf.backend_util.convertConv2DDataFormat(attribute(attributes, "dataFormat")),
  );
  if (info.dilationHeight !== 1 || info.dilationWidth !== 1 || info.dataFormat !== "channelsLast")
    return undefined;
  const { padInfo } = info;
  // With one number as padding the framework takes the kernel for a square and promises pixels that do not exist.
  const bottom = (info.outHeight - 1) * info.strideHeight + info.filterHeight - padInfo.top - info.inHeight;
  const right = (info.outWidth - 1) * info.strideWidth + info.filterWidth - padInfo.left - info.inWidth;
  if (bottom > padInfo.bottom || right > padInfo.right) {
    const message = "The window leaves the padded image: give the padding of every side.";
    throw new BackendError("backend.unsupported-shape", message);
  }
  return {
    images: info.batchSize,
    inHeight: info.inHeight,
    inWidth: info.inWidth,
    inChannels: info.inChannels,
    outHeight: info.outHeight,
    outWidth: info.outWidth,
    outChannels: info.outChannels,
    kernelHeight: info.filterHeight,
    kernelWidth: info.filterWidth,
    strideHeight: info.strideHeight,
    strideWidth: info.strideWidth,
    top: padInfo.top,
    bottom: padInfo.bottom,
    left: padInfo.left,
    right: padInfo.right,
  };
}

/** True when the convolution is a plain matrix product of pixels and channels. */
export function isPointwise(geometry: ConvolutionGeometry): boolean {
  const { kernelHeight, kernelWidth, strideHeight, strideWidth, top, bottom, left, right } = geometry;
  const unit = kernelHeight === 1 && kernelWidth === 1 && strideHeight === 1 && strideWidth === 1;
  return unit && top + bottom + left + right === 0;
}

/**
 * Input pixels `first, first + stride, ...` along one axis. Pixel `first + stride * i` receives the output gradients
 * `offset + i, ..., offset + i + taps.length - 1` through the filter taps `taps`.
 */
export type Phase = {
  readonly first: number;
  readonly count: number;
  readonly offset: number;
  readonly taps: readonly number[];
};

export type AxisGeometry = {
  readonly inSize: number;
  readonly kernelSize: number;
  readonly stride: number;
  readonly padding: number;
};

/**
 * The phases of one axis that receive anything. Input pixel y meets output y' through tap y + padding - stride * y';
 * for y = first + stride * i the taps are all those equal to first + padding modulo the stride.
 */
export function gradientPhases({ inSize, kernelSize, stride, padding }: AxisGeometry): Phase[] {
  const phases: Phase[] = [];
  for (let first = 0; first < Math.min(stride, inSize); first += 1) {
    const lowest = (first + padding) % stride;
    const taps: number[] = [];
    for (let tap = lowest; tap < kernelSize; tap += stride) taps.unshift(tap);
    const nearest = (first + padding - lowest) / stride;
    const count = Math.ceil((inSize - first) / stride);
    if (taps.length > 0) phases.push({ first, count, offset: nearest - taps.length + 1, taps });
  }
  return phases;
}

/** Zeros needed before and behind the output gradients of one axis so that every phase reads within them. */
export function gradientPadding(
  phases: readonly Phase[],
  outSize: number,
): { before: number; behind: number } {
  let before = 0;
  let behind = 0;
  for (const { count, offset, taps } of phases) {
    before = Math.max(before, -offset);
    behind = Math.max(behind, offset + count - 1 + taps.length - outSize);
  }
  return { before, behind };
}
