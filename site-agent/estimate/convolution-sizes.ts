// The framework's own arithmetic of convolutions and pooling, from the attributes that its operations pass to kernels.

import { tf } from "../backend/tensors.ts";
import { type Attributes, attribute } from "./kernel-call.ts";

type Shape4 = [number, number, number, number];

/** @param isDepthwise one filter for each channel */
export function convolutionOf(
  inShape: readonly number[],
  filterShape: readonly number[],
  attributes: Attributes,
  isDepthwise = false,
): tf.backend_util.Conv2DInfo {
  const format = attribute<"NHWC" | "NCHW" | undefined>(attributes, "dataFormat") ?? "NHWC";
  return tf.backend_util.computeConv2DInfo(
    [...inShape] as Shape4, // The framework checked the rank.
    [...filterShape] as Shape4, // As above.
    attribute(attributes, "strides"),
    attribute<number | undefined>(attributes, "dilations") ?? 1,
    attribute(attributes, "pad"),
    attribute(attributes, "dimRoundingMode"),
    isDepthwise,
    tf.backend_util.convertConv2DDataFormat(format),
  );
}

export function poolingOf(shape: readonly number[], attributes: Attributes): tf.backend_util.Conv2DInfo {
  return tf.backend_util.computePool2DInfo(
    [...shape] as Shape4, // The framework checked the rank.
    attribute(attributes, "filterSize"),
    attribute(attributes, "strides"),
    1,
    attribute(attributes, "pad"),
    attribute(attributes, "dimRoundingMode"),
  );
}
