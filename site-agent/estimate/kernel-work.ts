// What one kernel call costs by arithmetic alone: floating-point operations, bytes read and written, and the scratch
// space that the wasm kernels take beside their outputs. How fast a machine does it is measured elsewhere.

import { tf } from "../backend/tensors.ts";
import { convolutionOf } from "./convolution-sizes.ts";
import { attribute, bytesOf, elementsOf, input, type KernelCall } from "./kernel-call.ts";
import { REDUCTION_AXES, SHARING_KERNELS } from "./kernel-outputs.ts";

export const WORK_KINDS = ["products", "convolutions", "depthwise", "elementwise"] as const;
export type WorkKind = (typeof WORK_KINDS)[number];

export type KernelWork = {
  readonly kind: WorkKind;
  /** Multiplications and additions of products and convolutions; none is counted for what moves numbers only. */
  readonly flops: number;
  /** Of inputs and outputs, each once. */
  readonly bytes: number;
  readonly scratchBytes: number;
};

export function kernelWork(call: KernelCall): KernelWork {
  const all = [...Object.values(call.inputs), ...call.outputs];
  const moved = all.reduce((sum, form) => sum + bytesOf(form), 0);
  const bytes = SHARING_KERNELS.includes(call.kernel) ? 0 : moved;
  return { bytes, ...arithmetic(call) };
}

const FLOAT_BYTES = 4;
/** Columns of a panel of packed weights. */
const PANEL_COLUMNS = 8;
const VECTOR_CHANNELS = 4;

function arithmetic(call: KernelCall): Omit<KernelWork, "bytes"> {
  const { kernel, inputs, attributes, outputs } = call;
  const outElements = outputs.reduce((sum, form) => sum + elementsOf(form), 0);
  switch (kernel) {
    case "BatchMatMul":
      return matrixProduct(call, outElements);
    case "Conv2D": {
      const filter = input(inputs, "filter").shape;
      const [rows = 1, columns = 1, depth = 1, count = 1] = filter;
      const scratchBytes =
        borderedBytes(input(inputs, "x").shape, filter, call) + panelBytes(rows * columns * depth, count);
      return { kind: "convolutions", flops: 2 * outElements * rows * columns * depth, scratchBytes };
    }
    case "Conv2DBackpropInput": {
      const [rows = 1, columns = 1, depth = 1, count = 1] = input(inputs, "filter").shape;
      const dy = input(inputs, "dy");
      const scratchBytes = borderOf(dy.shape, rows, columns) + panelBytes(rows * columns * count, depth);
      return { kind: "convolutions", flops: 2 * elementsOf(dy) * rows * columns * depth, scratchBytes };
    }
    case "Conv2DBackpropFilter": {
      const filter = attribute<number[]>(attributes, "filterShape");
      const [rows = 1, columns = 1, depth = 1, count = 1] = filter;
      const dy = input(inputs, "dy");
      const widened = count % PANEL_COLUMNS === 0 ? 0 : (elementsOf(dy) / count) * panelColumns(count);
      const scratchBytes = borderedBytes(input(inputs, "x").shape, filter, call) + FLOAT_BYTES * widened;
      return { kind: "convolutions", flops: 2 * elementsOf(dy) * rows * columns * depth, scratchBytes };
    }
    case "DepthwiseConv2dNative":
    case "DepthwiseConv2dNativeBackpropInput":
    case "DepthwiseConv2dNativeBackpropFilter":
      return depthwise(call);
    default: {
      const axes = REDUCTION_AXES[kernel];
      const turns = axes !== undefined && turnsFirst(call, axes);
      const scratchBytes = turns ? bytesOf(input(inputs, "x")) : 0;
      return { kind: "elementwise", flops: 0, scratchBytes };
    }
  }
}

function matrixProduct({ inputs, attributes }: KernelCall, outElements: number): Omit<KernelWork, "bytes"> {
  const [a, b] = [input(inputs, "a").shape, input(inputs, "b").shape];
  const turnsA = attribute<boolean>(attributes, "transposeA");
  const turnsB = attribute<boolean>(attributes, "transposeB");
  const [depth = 1, rows = 1] = [a.at(turnsA ? -2 : -1), a.at(turnsA ? -1 : -2)];
  const columns = b.at(turnsB ? -2 : -1) ?? 1;
  const leftCopy = rows % VECTOR_CHANNELS === 0 ? 0 : depth * rows;
  const rightCopy = columns % PANEL_COLUMNS === 0 ? 0 : depth * panelColumns(columns);
  const scratchBytes = turnsA ? FLOAT_BYTES * (leftCopy + rightCopy) : panelBytes(depth, columns);
  return { kind: "products", flops: 2 * outElements * depth, scratchBytes };
}

function depthwise({ kernel, inputs, attributes }: KernelCall): Omit<KernelWork, "bytes"> {
  const isFilterGradient = kernel === "DepthwiseConv2dNativeBackpropFilter";
  const filter = isFilterGradient
    ? attribute<number[]>(attributes, "filterShape")
    : input(inputs, "filter").shape;
  const [rows = 1, columns = 1] = filter;
  const image = inputs["dy"] ?? input(inputs, "x");
  const flops = 2 * elementsOf(image) * rows * columns;
  const bordered = borderOf(image.shape, rows, columns);
  const scratchBytes = isFilterGradient ? 2 * bytesOf(image) + bordered : bordered;
  return { kind: "depthwise", flops, scratchBytes };
}

/** Bytes of a copy with zeros around it; nothing where the window never leaves the image. */
function borderedBytes(
  shape: readonly number[],
  filter: readonly number[],
  { attributes }: KernelCall,
): number {
  const { padInfo, inHeight, inWidth, inChannels, batchSize } = convolutionOf(shape, filter, attributes);
  const [vertical, horizontal] = [padInfo.top + padInfo.bottom, padInfo.left + padInfo.right];
  if (vertical + horizontal === 0) return 0;
  return FLOAT_BYTES * batchSize * (inHeight + vertical) * (inWidth + horizontal) * inChannels;
}

/** The same for a gradient that is read from one window before it to one behind it. */
function borderOf(shape: readonly number[], rows: number, columns: number): number {
  const [batch = 1, height = 1, width = 1, channels = 1] = shape;
  if (rows * columns === 1) return 0;
  return FLOAT_BYTES * batch * (height + rows - 1) * (width + columns - 1) * channels;
}

function panelColumns(columns: number): number {
  return Math.ceil(columns / PANEL_COLUMNS) * PANEL_COLUMNS;
}

function panelBytes(depth: number, columns: number): number {
  return FLOAT_BYTES * depth * panelColumns(columns);
}

/** Reductions over other axes than the last ones work on a transposed copy. */
function turnsFirst({ inputs, attributes }: KernelCall, axesName: string): boolean {
  const { shape } = input(inputs, "x");
  const axes = tf.util.parseAxisParam(attribute(attributes, axesName), [...shape]);
  return tf.backend_util.getAxesPermutation(axes, shape.length) !== null;
}
