// What refinement asks, in the terms in which SAM 2 takes it: prompts as points with labels, memories as frames with a
// place in time.

import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { tf } from "../../backend/tensors.ts";
import type { MemorySelection } from "../../models/sam2/memory-selection.ts";
import type { FramePrompts } from "../../models/sam2/track-frame.ts";
import type { ModelPrompt } from "../../prompts/object-prompt.ts";
import type { SliceSize } from "../../prompts/slice-size.ts";
import type { MemoryChoice } from "../../refinement/frame-selection.ts";

/** SAM 2's labels: 0 and 1 for points, 2 and 3 for the corners of a box. */
const BOX_LABELS = [2, 3];

export function framePrompts(prompt: ModelPrompt | null, { height, width }: SliceSize): FramePrompts {
  if (prompt === null) return {};
  const { box, points, maskLogits } = prompt;
  const coordinates = [
    ...(box ? [box.x1, box.y1, box.x2, box.y2] : []),
    ...points.flatMap(({ x, y }) => [x, y]),
  ];
  const labels = [...(box ? BOX_LABELS : []), ...points.map(({ isPositive }) => (isPositive ? 1 : 0))];
  return {
    ...(labels.length > 0 && { points: { coordinates, labels, pointCount: labels.length } }),
    ...(maskLogits && { earlierMask: tf.tensor4d(maskLogits, [1, 1, height, width]) }),
  };
}

/** Every memory also points, as long as the model's record has room; distances are shares of the longest one. */
export function memorySelection(
  memories: readonly MemoryChoice[],
  sliceCount: number,
  { tracking: { pointers } }: Sam2Config,
): MemorySelection {
  const countMax = pointers ? Math.min(sliceCount, pointers.countMax) : 0;
  return {
    memories: memories.map(({ slice, slot }) => ({ frame: slice, slot })),
    pointers: memories.slice(0, countMax).map(({ slice, distance }) => ({
      frame: slice,
      distance: (pointers?.signedTime ? distance : Math.abs(distance)) / Math.max(1, countMax - 1),
    })),
  };
}
