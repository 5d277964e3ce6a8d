// Connected components of a mask over a slice or a stack of slices. Pixels that touch at a corner are connected, as in
// scikit-image's default and in the prompts of SAM-Med2D.

import { assert } from "@consilium/shared/base/assert.ts";
import { maskWhere } from "@consilium/shared/base/mask-where.ts";
import type { StackSize } from "./slice-size.ts";

/** `components` numbers from 1 in the order of their first voxel, 0 outside; `sizes[n - 1]` are the voxels of `n`. */
export type Components = { readonly components: Int32Array; readonly sizes: readonly number[] };

type Grid = StackSize & { readonly mask: Uint8Array; readonly components: Int32Array };

/** @param mask [depth, height, width], anything but 0 belongs to it */
export function connectedComponents(mask: Uint8Array, size: StackSize): Components {
  assert(mask.length === size.depth * size.height * size.width, "the mask covers the stack");
  const grid = { ...size, mask, components: new Int32Array(mask.length) };
  const pending = new Int32Array(mask.length); // Every voxel waits here at most once.
  const sizes: number[] = [];
  for (let seed = 0; seed < mask.length; seed += 1) {
    if (mask[seed] === 0 || grid.components[seed] !== 0) continue;
    sizes.push(flood(grid, { pending, seed, number: sizes.length + 1 }));
  }
  return { components: grid.components, sizes };
}

function flood(
  grid: Grid,
  { pending, seed, number }: { pending: Int32Array; seed: number; number: number },
): number {
  pending[0] = seed;
  grid.components[seed] = number;
  let found = 1;
  for (let next = 0; next < found; next += 1) {
    forEachNeighbour(grid, pending[next] ?? 0, (voxel) => {
      if (grid.mask[voxel] === 0 || grid.components[voxel] !== 0) return;
      grid.components[voxel] = number;
      pending[found] = voxel;
      found += 1;
    });
  }
  return found;
}

/** The voxel itself is visited too, which changes nothing. */
function forEachNeighbour(
  { depth, height, width }: Grid,
  voxel: number,
  visit: (voxel: number) => void,
): void {
  const x = voxel % width;
  const y = Math.floor(voxel / width) % height;
  const z = Math.floor(voxel / (width * height));
  for (let k = Math.max(0, z - 1); k <= Math.min(depth - 1, z + 1); k += 1) {
    for (let j = Math.max(0, y - 1); j <= Math.min(height - 1, y + 1); j += 1) {
      for (let i = Math.max(0, x - 1); i <= Math.min(width - 1, x + 1); i += 1) {
        visit((k * height + j) * width + i);
      }
    }
  }
}

/** The component with most voxels, of equal ones the first; null where the mask is empty. */
export function largestComponent(mask: Uint8Array, size: StackSize): Uint8Array | null {
  const { components, sizes } = connectedComponents(mask, size);
  if (sizes.length === 0) return null;
  const largest = sizes.indexOf(sizes.reduce((most, count) => Math.max(most, count))) + 1;
  return maskWhere(components, (number) => number === largest);
}
