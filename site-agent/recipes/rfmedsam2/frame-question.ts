// What refinement asks, in the terms in which SAM 2 takes it: prompts as points with labels, memories as frames with a
// place in time, and questions of one form as a batch.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { tf } from "../../backend/tensors.ts";
import type { FrameMemory } from "../../models/sam2/memory-bank.ts";
import type { RememberedFrames } from "../../models/sam2/memory-of-each.ts";
import type { FramePrompts } from "../../models/sam2/track-frame.ts";
import type { ModelPrompt } from "../../prompts/object-prompt.ts";
import type { SliceSize } from "../../prompts/slice-size.ts";
import type { MemoryUse } from "../../refinement/refine-objects.ts";

/** SAM 2's labels for the corners of a box; 0 and 1 are those of points. */
const CORNER_LABELS = [2, 3] as const;

export type Asking = {
  /** In pixels of the model's image; null asks from memory alone. */
  readonly prompt: ModelPrompt | null;
  /** None: the slice is looked at alone. */
  readonly memories: readonly MemoryUse<FrameMemory>[];
};

/** Questions of one form can be asked at once: as many points, a mask or none, as many memories. */
export function formOf({ prompt, memories }: Asking): string {
  const points = (prompt?.box ? CORNER_LABELS.length : 0) + (prompt?.points.length ?? 0);
  return `${points} points, ${prompt?.maskLogits ? "a mask" : "no mask"}, ${memories.length} memories`;
}

/** @param asked of one form */
export function framePrompts(asked: readonly Asking[], { height, width }: SliceSize): FramePrompts {
  const rows = asked.map(({ prompt }) => pointRows(prompt));
  const pointCount = expectDefined(rows[0], "a question").length;
  const masks = asked.flatMap(({ prompt }) => (prompt?.maskLogits ? [prompt.maskLogits] : []));
  const grids = new Float32Array(masks.length * height * width);
  masks.forEach((mask, index) => {
    grids.set(mask, index * height * width);
  });
  return {
    ...(pointCount > 0 && {
      points: {
        coordinates: rows.flat().flatMap(({ x, y }) => [x, y]),
        labels: rows.flat().map(({ label }) => label),
        pointCount,
      },
    }),
    ...(masks.length > 0 && { earlierMask: tf.tensor4d(grids, [masks.length, 1, height, width]) }),
  };
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
