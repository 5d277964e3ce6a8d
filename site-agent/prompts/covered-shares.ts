// How much of each cell of a coarser grid a mask covers: what a mask on the decoder's own grid is trained towards.

import { assert } from "@consilium/shared/base/assert.ts";
import { pixelsOf, type SliceSize } from "./slice-size.ts";

/** @param mask 0 and 1, [size.height, size.width] @param grid divides it @returns shares [grid.height, grid.width] */
export function coveredShares(
  mask: Float32Array | Uint8Array,
  size: SliceSize,
  grid: SliceSize,
): Float32Array {
  const [rows, columns] = [size.height / grid.height, size.width / grid.width];
  assert(Number.isInteger(rows) && Number.isInteger(columns), "a cell is whole pixels");
  const shares = new Float32Array(pixelsOf(grid));
  for (let row = 0; row < size.height; row += 1) {
    const first = Math.floor(row / rows) * grid.width;
    for (let column = 0; column < size.width; column += 1) {
      const cell = first + Math.floor(column / columns);
      shares[cell] = (shares[cell] ?? 0) + (mask[row * size.width + column] ?? 0);
    }
  }
  return shares.map((pixels) => pixels / (rows * columns));
}
