// Conv2DBackpropInput, which is also the transposed convolution. The stock kernel is a scalar loop. An input pixel is
// reached through the taps that agree with its position within a stride, so every such position is an ordinary
// convolution of the output gradients, without stride and without the zeros that an up-sampled image would hold.

import { unsupportedConvolution } from "./convolution.ts";
import {
  type ConvolutionGeometry,
  convolutionGeometry,
  gradientPadding,
  gradientPhases,
  type Phase,
} from "./convolution-geometry.ts";
import { type Border, borderedBytes, copyWithBorder, distances, hasBorder } from "./image-window.ts";
import {
  attribute,
  input,
  isEmpty,
  type KernelContext,
  type TrainingKernel,
  zeros,
} from "./kernel-registry.ts";
import { convolveTiles, FLOAT_BYTES, panelBytes, panelColumns, TILE_BYTES } from "./products.ts";

type Plan = {
  readonly geometry: ConvolutionGeometry;
  readonly rows: readonly Phase[];
  readonly columns: readonly Phase[];
  readonly border: Border;
};
type Places = {
  readonly outputGradient: number;
  readonly filter: number;
  readonly gradient: number;
  readonly panels: number;
  readonly bias: number;
  readonly tile: number;
};

export const convolutionInputGradient: TrainingKernel = {
  name: "Conv2DBackpropInput",
  compute(context, inputs, attributes) {
    const [dy, filter] = [input(inputs, "dy"), input(inputs, "filter")];
    const shape = attribute<number[]>(attributes, "inputShape");
    const geometry = convolutionGeometry(shape, filter.shape, attributes) ?? unsupportedConvolution();
    const plan = planPhases(geometry);
    const { heap, module } = context;
    const everyPixelIsReached =
      plan.rows.length === Math.min(geometry.strideHeight, geometry.inHeight) &&
      plan.columns.length === Math.min(geometry.strideWidth, geometry.inWidth);
    const empty = isEmpty(dy, filter);
    const gradient = everyPixelIsReached && !empty ? heap.output(shape) : zeros(context, shape);
    if (empty || isEmpty(gradient)) return gradient;
    const size = outputSize(geometry);
    const bordered = hasBorder(plan.border);
    const bytes = {
      padded: bordered ? borderedBytes(size, plan.border) : 0,
      panels: panelBytes(
        geometry.kernelHeight * geometry.kernelWidth * geometry.outChannels,
        geometry.inChannels,
      ),
      bias: FLOAT_BYTES * panelColumns(geometry.inChannels),
      tile: TILE_BYTES,
    };
    heap.lend(bytes, ({ padded, panels, bias, tile }) => {
      const from = heap.pointer(dy);
      if (bordered) copyWithBorder(context, { from, to: padded, size, border: plan.border });
      module.clear(bias, bytes.bias);
      const outputGradient = bordered ? padded : from;
      const [filterAt, gradientAt] = [heap.pointer(filter), heap.pointer(gradient)];
      const places = { outputGradient, filter: filterAt, gradient: gradientAt, panels, bias, tile };
      for (const row of plan.rows)
        for (const column of plan.columns) convolvePhase(context, plan, places, row, column);
    });
    return gradient;
  },
};

function outputSize({ images, outHeight, outWidth, outChannels }: ConvolutionGeometry) {
  return { images, height: outHeight, width: outWidth, channels: outChannels };
}

function planPhases(geometry: ConvolutionGeometry): Plan {
  const { inHeight, inWidth, kernelHeight, kernelWidth, strideHeight, strideWidth, top, left } = geometry;
  const rows = gradientPhases({
    inSize: inHeight,
    kernelSize: kernelHeight,
    stride: strideHeight,
    padding: top,
  });
  const columns = gradientPhases({
    inSize: inWidth,
    kernelSize: kernelWidth,
    stride: strideWidth,
    padding: left,
  });
  const vertical = gradientPadding(rows, geometry.outHeight);
  const horizontal = gradientPadding(columns, geometry.outWidth);
  const border = {
    top: vertical.before,
    bottom: vertical.behind,
    left: horizontal.before,
    right: horizontal.behind,
  };
  return { geometry, rows, columns, border };
}

function convolvePhase(context: KernelContext, plan: Plan, places: Places, row: Phase, column: Phase): void {
  const { geometry, border } = plan;
  const { inChannels, outChannels, inHeight, inWidth, strideHeight, strideWidth } = geometry;
  packTaps(context, plan, places, row, column);
  const height = border.top + geometry.outHeight + border.bottom;
  const width = border.left + geometry.outWidth + border.right;
  const from = distances({ height, width, channels: outChannels });
  const dense = distances({ height: inHeight, width: inWidth, channels: inChannels });
  const to = {
    imageBytes: dense.imageBytes,
    rowBytes: strideHeight * dense.rowBytes,
    pixelBytes: strideWidth * dense.pixelBytes,
  };
  const start = (border.top + row.offset) * from.rowBytes + (border.left + column.offset) * from.pixelBytes;
  convolveTiles(context.module, {
    ...{ input: places.outputGradient + start, panels: places.panels, bias: places.bias, tile: places.tile },
    output: places.gradient + row.first * dense.rowBytes + column.first * dense.pixelBytes,
    ...{ images: geometry.images, rows: row.count, pixels: column.count, from, to, columns: inChannels },
    ...{
      segments: row.taps.length,
      segmentBytes: from.rowBytes,
      segmentLength: column.taps.length * outChannels,
    },
  });
}

/** The phase's taps as one filter whose columns are the input channels. */
function packTaps(
  context: KernelContext,
  { geometry }: Plan,
  places: Places,
  row: Phase,
  column: Phase,
): void {
  const { inChannels, outChannels, kernelWidth } = geometry;
  const panelDistance = panelBytes(row.taps.length * column.taps.length * outChannels, 1);
  const [tapBytes, columnBytes] = [FLOAT_BYTES * inChannels * outChannels, FLOAT_BYTES * outChannels];
  let to = places.panels;
  for (const y of row.taps) {
    for (const x of column.taps) {
      const from = places.filter + (y * kernelWidth + x) * tapBytes;
      context.module.pack_panels(from, outChannels, inChannels, FLOAT_BYTES, columnBytes, to, panelDistance);
      to += panelBytes(outChannels, 1);
    }
  }
}
