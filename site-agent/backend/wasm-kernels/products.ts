// The two tiled products under the names of their arguments, and the sizes of the scratch space that they need.
// Everything that multiplies matrices on the wasm backend comes down to these.

import type { TrainingModule } from "./training-module.ts";

export const FLOAT_BYTES = 4;
/** Room for one 4 x 8 tile that is stored in part. */
export const TILE_BYTES = 128;
const PANEL_COLUMNS = 8;
/** Bytes of input under one chunk of pixels, so that it stays in a second-level cache. */
const CHUNK_BYTES = 256 * 1024;
const CHUNK_PIXELS_MIN = 16;
const CHUNK_PIXELS_MAX = 1024;
/** Pixels whose products are summed in registers before they are added to a gradient. */
export const BLOCK_PIXELS = 64;

/** Distances in bytes between neighbouring images, rows and pixels. */
export type PixelDistances = {
  readonly imageBytes: number;
  readonly rowBytes: number;
  readonly pixelBytes: number;
};

/** How many pixels a product runs over: `pixels` in a row, `rows` in an image. */
export type PixelGrid = { readonly images: number; readonly rows: number; readonly pixels: number };

/** The numbers under a filter: runs of neighbours, one for every row of the kernel window. */
export type Segments = {
  readonly segments: number;
  readonly segmentBytes: number;
  readonly segmentLength: number;
};

export type ConvolveArguments = PixelGrid &
  Segments & {
    readonly input: number;
    readonly panels: number;
    readonly bias: number;
    readonly output: number;
    readonly tile: number;
    readonly columns: number;
    readonly from: PixelDistances;
    readonly to: PixelDistances;
  };

/** output[pixel, column] = bias[column] + sum of input[pixel, k] * panels[k, column]. */
export function convolveTiles(module: TrainingModule, run: ConvolveArguments): void {
  const { input, panels, bias, output, tile, images, rows, pixels, from, to } = run;
  module.convolve(
    input,
    panels,
    bias,
    output,
    tile,
    images,
    rows,
    pixels,
    from.imageBytes,
    from.rowBytes,
    from.pixelBytes,
    to.imageBytes,
    to.rowBytes,
    to.pixelBytes,
    run.columns,
    run.segments,
    run.segmentBytes,
    run.segmentLength,
    chunkPixels(from.pixelBytes),
  );
}

export type FilterGradientArguments = PixelGrid &
  Segments & {
    readonly input: number;
    readonly outputGradient: number;
    readonly gradient: number;
    readonly tile: number;
    readonly columns: number;
    readonly from: PixelDistances;
    readonly to: PixelDistances;
  };

/** gradient[k, column] += sum over pixels of input[pixel, k] * outputGradient[pixel, column]. */
export function filterGradientTiles(module: TrainingModule, run: FilterGradientArguments): void {
  const { input, outputGradient, gradient, tile, images, rows, pixels, from, to } = run;
  module.filter_gradient(
    input,
    outputGradient,
    gradient,
    tile,
    images,
    rows,
    pixels,
    from.imageBytes,
    from.rowBytes,
    from.pixelBytes,
    to.imageBytes,
    to.rowBytes,
    to.pixelBytes,
    run.segments,
    run.segmentBytes,
    run.segmentLength,
    run.columns,
    Math.max(1, Math.floor(BLOCK_PIXELS / pixels)),
  );
}

/** Columns rounded up to whole panels. */
export function panelColumns(columns: number): number {
  return Math.ceil(columns / PANEL_COLUMNS) * PANEL_COLUMNS;
}

/** Bytes of a [k, columns] matrix in panels; with one column, the distance between two panels. */
export function panelBytes(k: number, columns: number): number {
  return FLOAT_BYTES * k * panelColumns(columns);
}

function chunkPixels(pixelBytes: number): number {
  const pixels = Math.floor(CHUNK_BYTES / Math.max(1, pixelBytes) / 4) * 4;
  return Math.min(CHUNK_PIXELS_MAX, Math.max(CHUNK_PIXELS_MIN, pixels));
}
