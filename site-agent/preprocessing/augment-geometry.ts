// Moves a slice about its centre: rotation, magnification and shift in one pass of interpolation, and exact mirroring.
// What comes in from outside is background: the channel's lowest value, and label 0.

import type { Slice } from "./prepare.ts";

export interface PlaneTransform {
  /** Clockwise as seen on the screen. */
  readonly radians: number;
  readonly magnification: number;
  /** In pixels: downwards and to the right. */
  readonly shiftRows: number;
  readonly shiftColumns: number;
}

export type MirrorAxis = "row" | "column";

/** Image linear, labels nearest. */
export function transformGeometry(slice: Slice, transform: PlaneTransform): Slice {
  const { height, width, channels } = slice;
  const image = new Float32Array(slice.image.length);
  const labels = new Uint8Array(slice.labels.length);
  const lowest = channelMinima(slice);
  const cosine = Math.cos(transform.radians) / transform.magnification;
  const sine = Math.sin(transform.radians) / transform.magnification;
  const middleRow = (height - 1) / 2;
  const middleColumn = (width - 1) / 2;
  for (let row = 0; row < height; row += 1) {
    const y = row - middleRow - transform.shiftRows;
    for (let column = 0; column < width; column += 1) {
      const x = column - middleColumn - transform.shiftColumns;
      const fromRow = middleRow - sine * x + cosine * y;
      const fromColumn = middleColumn + cosine * x + sine * y;
      const pixel = row * width + column;
      labels[pixel] = nearestLabel(slice, fromRow, fromColumn);
      for (let channel = 0; channel < channels; channel += 1) {
        const place = { row: fromRow, column: fromColumn, channel };
        image[pixel * channels + channel] = interpolated(slice, place, lowest[channel] ?? 0);
      }
    }
  }
  return { ...slice, image, labels };
}

/** @returns a new slice with the order of its rows, of its columns, or of both turned round. */
export function mirror(slice: Slice, axes: readonly MirrorAxis[]): Slice {
  const { height, width, channels } = slice;
  const image = new Float32Array(slice.image.length);
  const labels = new Uint8Array(slice.labels.length);
  const isRow = axes.includes("row");
  const isColumn = axes.includes("column");
  for (let row = 0; row < height; row += 1) {
    const fromRow = isRow ? height - 1 - row : row;
    for (let column = 0; column < width; column += 1) {
      const from = fromRow * width + (isColumn ? width - 1 - column : column);
      const to = row * width + column;
      labels[to] = slice.labels[from] ?? 0;
      for (let channel = 0; channel < channels; channel += 1) {
        image[to * channels + channel] = slice.image[from * channels + channel] ?? 0;
      }
    }
  }
  return { ...slice, image, labels };
}

function nearestLabel({ labels, height, width }: Slice, row: number, column: number): number {
  const y = Math.floor(row + 0.5);
  const x = Math.floor(column + 0.5);
  return y < 0 || x < 0 || y >= height || x >= width ? 0 : (labels[y * width + x] ?? 0);
}

function interpolated(
  { image, height, width, channels }: Slice,
  { row, column, channel }: { row: number; column: number; channel: number },
  outside: number,
): number {
  if (row < -0.5 || column < -0.5 || row > height - 0.5 || column > width - 0.5) return outside;
  const y = Math.max(0, Math.min(height - 1, row));
  const x = Math.max(0, Math.min(width - 1, column));
  const top = Math.floor(y);
  const left = Math.floor(x);
  const down = top + 1 < height ? width * channels : 0;
  const across = left + 1 < width ? channels : 0;
  const at = (top * width + left) * channels + channel;
  const upper = (image[at] ?? 0) + (x - left) * ((image[at + across] ?? 0) - (image[at] ?? 0));
  const below = at + down;
  const lower = (image[below] ?? 0) + (x - left) * ((image[below + across] ?? 0) - (image[below] ?? 0));
  return upper + (y - top) * (lower - upper);
}

function channelMinima({ image, channels }: Slice): Float32Array {
  const lowest = new Float32Array(channels).fill(Number.POSITIVE_INFINITY);
  for (let index = 0; index < image.length; index += 1) {
    const channel = index % channels;
    lowest[channel] = Math.min(lowest[channel] ?? 0, image[index] ?? 0);
  }
  return lowest;
}
