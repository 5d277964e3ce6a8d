// Keeps of every organ its largest connected part in three dimensions. It helps where each organ is one piece and harms
// where it is not, so results are reported with and without it.

import { maskWhere } from "@consilium/shared/base/mask-where.ts";
import { largestComponent } from "../prompts/connected-components.ts";
import type { StackSize } from "../prompts/slice-size.ts";

/** @param classes [depth, height, width], 0 is background @returns a copy */
export function withLargestParts(classes: Uint8Array, size: StackSize): Uint8Array {
  const kept = new Uint8Array(classes.length);
  for (const classIndex of new Set(classes)) {
    if (classIndex === 0) continue;
    const mask = maskWhere(classes, (value) => value === classIndex);
    const part = largestComponent(mask, size);
    for (let voxel = 0; part && voxel < part.length; voxel += 1)
      if (part[voxel] === 1) kept[voxel] = classIndex;
  }
  return kept;
}
