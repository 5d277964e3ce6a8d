// A smooth random pattern over a volume: numbers at the corners of cells, linear between them.

import type { Prng } from "@consilium/shared/base/prng.ts";
import type { StackSize } from "../prompts/slice-size.ts";

/** The pattern along one row, from -1 to 1; the array is used again for the next row. */
export type NoiseRow = (z: number, y: number) => Float32Array;

/** Cells have one side in all directions. */
export function smoothNoise({ depth, height, width }: StackSize, cellPx: number, prng: Prng): NoiseRow {
  const corners = (side: number): number => Math.floor((side - 1) / cellPx) + 2;
  const [rows, columns] = [corners(height), corners(width)];
  const lattice = new Float32Array(corners(depth) * rows * columns);
  for (let corner = 0; corner < lattice.length; corner += 1) lattice[corner] = prng.uniform(-1, 1);
  const between = new Float32Array(columns);
  const row = new Float32Array(width);
  return (z, y) => {
    const [slice, shareZ] = cellOf(z, cellPx);
    const [line, shareY] = cellOf(y, cellPx);
    const near = (slice * rows + line) * columns;
    const far = near + rows * columns;
    for (let column = 0; column < columns; column += 1) {
      const front = mixed(lattice[near + column] ?? 0, lattice[near + columns + column] ?? 0, shareY);
      const back = mixed(lattice[far + column] ?? 0, lattice[far + columns + column] ?? 0, shareY);
      between[column] = mixed(front, back, shareZ);
    }
    for (let x = 0; x < width; x += 1) {
      const column = Math.floor(x / cellPx);
      row[x] = mixed(between[column] ?? 0, between[column + 1] ?? 0, x / cellPx - column);
    }
    return row;
  };
}

function cellOf(place: number, cellPx: number): [cell: number, share: number] {
  const cell = Math.floor(place / cellPx);
  return [cell, place / cellPx - cell];
}

function mixed(from: number, to: number, share: number): number {
  return from + (to - from) * share;
}
