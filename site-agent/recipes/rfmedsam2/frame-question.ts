// What refinement asks, in the terms in which SAM 2 takes it: prompts as points with labels, memories as frames with a
// place in time.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import type { FrameMemory } from "../../models/sam2/memory-bank.ts";
import type { RememberedFrames } from "../../models/sam2/memory-of-each.ts";
import { noPoints, type PointPrompts } from "../../models/sam2/prompt-encoder.ts";
import type { ModelPrompt } from "../../prompts/object-prompt.ts";
import type { MemoryUse } from "../../refinement/refine-objects.ts";

/** SAM 2's labels for the corners of a box; 0 and 1 are those of points. */
const CORNER_LABELS = [2, 3] as const;

export type Asking = {
  /** In pixels of the model's image; null asks from memory alone. */
  readonly prompt: ModelPrompt | null;
  /** None: the slice is looked at alone. */
  readonly memories: readonly MemoryUse<FrameMemory>[];
};

/** Every question is asked with as many points, and each is given as numbers. */
export function pointPrompts(asked: readonly Pick<Asking, "prompt">[]): PointPrompts {
  const rows = asked.map(({ prompt }) => pointRows(prompt));
  const pointCount = expectDefined(rows[0], "a question").length;
  if (pointCount === 0) return noPoints(asked.length);
  return {
    coordinates: rows.flat().flatMap(({ x, y }) => [x, y]),
    labels: rows.flat().map(({ label }) => label),
    pointCount,
  };
}

export function pointCountOf({ prompt }: Pick<Asking, "prompt">): number {
  return pointRows(prompt).length;
}

type PointRow = { readonly x: number; readonly y: number; readonly label: number };

function pointRows(prompt: ModelPrompt | null): PointRow[] {
  if (prompt === null) return [];
  const { box, points } = prompt;
  const corners = box
    ? [
        { x: box.x1, y: box.y1, label: CORNER_LABELS[0] },
        { x: box.x2, y: box.y2, label: CORNER_LABELS[1] },
      ]
    : [];
  return [...corners, ...points.map(({ x, y, isPositive }) => ({ x, y, label: isPositive ? 1 : 0 }))];
}

/** Every memory also points, as long as the model's record has room; distances are shares of the longest one. */
export function rememberedFrames(
  memories: Asking["memories"],
  sliceCount: number,
  { tracking: { pointers } }: Sam2Config,
): RememberedFrames {
  const countMax = pointers ? Math.min(sliceCount, pointers.countMax) : 0;
  return {
    memories: memories.map(({ memory, slot }) => ({ memory, slot })),
    pointers: memories.slice(0, countMax).map(({ memory, distance }) => ({
      memory,
      distance: (pointers?.signedTime ? distance : Math.abs(distance)) / Math.max(1, countMax - 1),
    })),
  };
}
