// Conv2DBackpropFilter, which the stock backend lacks: the product of the transposed input with the output gradient,
// summed over the pixels of all images.

import { unsupportedConvolution } from "./convolution.ts";
import { convolutionGeometry } from "./convolution-geometry.ts";
import { borderedBytes, convolutionWindow, copyWithBorder, hasBorder, inputSize } from "./image-window.ts";
import {
  attribute,
  input,
  isEmpty,
  type KernelContext,
  type TrainingKernel,
  zeros,
} from "./kernel-registry.ts";
import {
  BLOCK_PIXELS,
  type FilterGradientArguments,
  FLOAT_BYTES,
  filterGradientTiles,
  panelColumns,
  TILE_BYTES,
} from "./products.ts";

export const convolutionFilterGradient: TrainingKernel = {
  name: "Conv2DBackpropFilter",
  compute(context, inputs, attributes) {
    const [x, dy] = [input(inputs, "x"), input(inputs, "dy")];
    const shape = attribute<number[]>(attributes, "filterShape");
    const geometry = convolutionGeometry(x.shape, shape, attributes) ?? unsupportedConvolution();
    const gradient = zeros(context, shape);
    if (isEmpty(x, dy, gradient)) return gradient;
    const { heap } = context;
    const { outChannels, inChannels, kernelWidth } = geometry;
    // Tiles read whole vectors: what could reach beyond a tensor is first copied to where there is room behind it.
    const copies = hasBorder(geometry) || (kernelWidth * inChannels) % 4 !== 0;
    const columnCount = panelColumns(outChannels);
    const pixels = geometry.images * geometry.outHeight * geometry.outWidth;
    const bytes = {
      padded: copies ? borderedBytes(inputSize(geometry), geometry) : 0,
      widened: columnCount === outChannels ? 0 : FLOAT_BYTES * pixels * columnCount,
      tile: TILE_BYTES,
    };
    heap.lend(bytes, ({ padded, widened, tile }) => {
      const from = heap.pointer(x);
      if (copies) copyWithBorder(context, { from, to: padded, size: inputSize(geometry), border: geometry });
      accumulateProducts(context, {
        ...convolutionWindow(geometry, columnCount),
        input: copies ? padded : from,
        outputGradient: widenRows(context, heap.pointer(dy), {
          to: widened,
          rows: pixels,
          columns: outChannels,
        }),
        gradient: heap.pointer(gradient),
        tile,
        columns: outChannels,
      });
    });
    return gradient;
  },
};

/** The address of rows that are whole panels wide: the given one where they are already, else a copy at `to`. */
export function widenRows(
  { module }: KernelContext,
  from: number,
  { to, rows, columns }: { readonly to: number; readonly rows: number; readonly columns: number },
): number {
  const [rowBytes, wideBytes] = [FLOAT_BYTES * columns, FLOAT_BYTES * panelColumns(columns)];
  if (rowBytes === wideBytes) return from;
  module.clear(to, rows * wideBytes);
  module.copy_rows(from, to, rows, rowBytes, rowBytes, wideBytes);
  return to;
}

/** Cut one long row of pixels into rows of one block and a rest; other grids run as they are. */
export function accumulateProducts({ module }: KernelContext, run: FilterGradientArguments): void {
  if (run.images * run.rows !== 1 || run.pixels <= BLOCK_PIXELS) {
    filterGradientTiles(module, run);
    return;
  }
  const rows = Math.floor(run.pixels / BLOCK_PIXELS);
  const rest = run.pixels - rows * BLOCK_PIXELS;
  const from = { ...run.from, rowBytes: BLOCK_PIXELS * run.from.pixelBytes };
  const to = { ...run.to, rowBytes: BLOCK_PIXELS * run.to.pixelBytes };
  filterGradientTiles(module, { ...run, rows, pixels: BLOCK_PIXELS, from, to });
  if (rest === 0) return;
  const input = run.input + rows * from.rowBytes;
  const outputGradient = run.outputGradient + rows * to.rowBytes;
  filterGradientTiles(module, { ...run, input, outputGradient, pixels: rest });
}
