// Conv2D as a product of tiles that read the padded images in place. It replaces the stock kernel, which packs and
// caches a copy of every filter tensor it has seen: a filter changes with every training step.

import { BackendError } from "../backend-error.ts";
import { type ConvolutionGeometry, convolutionGeometry } from "./convolution-geometry.ts";
import { borderedBytes, convolutionWindow, copyWithBorder, hasBorder, inputSize } from "./image-window.ts";
import { input, isEmpty, type TrainingKernel, zeros } from "./kernel-registry.ts";
import { convolveTiles, FLOAT_BYTES, panelBytes, panelColumns, TILE_BYTES } from "./products.ts";

/** Dilated filters and channels-first images stay with the stock kernel; they have no gradient. */
export const convolution: TrainingKernel = {
  name: "Conv2D",
  compute(context, inputs, attributes, stock) {
    const [x, filter] = [input(inputs, "x"), input(inputs, "filter")];
    const geometry = convolutionGeometry(x.shape, filter.shape, attributes);
    if (!geometry) return stock?.() ?? unsupportedConvolution();
    const { images, outHeight, outWidth, outChannels } = geometry;
    const shape = [images, outHeight, outWidth, outChannels];
    if (isEmpty({ ...x, shape }, x, filter)) return zeros(context, shape);
    const { heap, module } = context;
    const output = heap.output(shape);
    const k = geometry.kernelHeight * geometry.kernelWidth * geometry.inChannels;
    const bytes = scratchBytes(geometry, k);
    heap.lend(bytes, ({ padded, panels, bias, tile }) => {
      const from = heap.pointer(x);
      const bordered = bytes.padded > 0;
      if (bordered)
        copyWithBorder(context, { from, to: padded, size: inputSize(geometry), border: geometry });
      const [rowBytes, panelDistance] = [FLOAT_BYTES * outChannels, panelBytes(k, 1)];
      module.pack_panels(heap.pointer(filter), k, outChannels, rowBytes, FLOAT_BYTES, panels, panelDistance);
      module.clear(bias, bytes.bias);
      const places = { input: bordered ? padded : from, output: heap.pointer(output), panels, bias, tile };
      convolveTiles(module, { ...convolutionWindow(geometry, outChannels), ...places, columns: outChannels });
    });
    return output;
  },
};

function scratchBytes(geometry: ConvolutionGeometry, k: number) {
  return {
    padded: hasBorder(geometry) ? borderedBytes(inputSize(geometry), geometry) : 0,
    panels: panelBytes(k, geometry.outChannels),
    bias: FLOAT_BYTES * panelColumns(geometry.outChannels),
    tile: TILE_BYTES,
  };
}

/** @throws BackendError `backend.unsupported-shape` */
export function unsupportedConvolution(): never {
  const form = "a two-dimensional, undilated, channels-last convolution";
  throw new BackendError(
    "backend.unsupported-shape",
    `The wasm backend computes ${form} and its gradients only.`,
  );
}
