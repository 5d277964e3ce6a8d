// Which frames a frame remembers: pure arithmetic on frame numbers. Conditioning frames are those with a prompt; they are
// remembered wherever they lie, other frames only shortly before, where "before" follows the direction of tracking.

import type { Sam2Config } from "@consilium/shared/model/sam2.ts";

export type Remembering = {
  readonly frame: number;
  readonly frameCount: number;
  /** Tracking runs towards the first frame. */
  readonly reverse: boolean;
  readonly training: boolean;
  /** Frames that have a memory. */
  readonly conditioning: readonly number[];
  readonly tracked: readonly number[];
};

export type MemorySelection = {
  /** In the order of the memory; slot 0 belongs to conditioning frames, slot 1 to the oldest of the others. */
  readonly memories: readonly { readonly frame: number; readonly slot: number }[];
  /** Distance in time, with a sign where the record says so, as a share of the longest one. */
  readonly pointers: readonly { readonly frame: number; readonly distance: number }[];
};

type Tracking = Sam2Config["tracking"];

export function selectMemories(remembering: Remembering, config: Tracking): MemorySelection {
  const selected = nearestFrames(remembering, config.conditioningFrameCountMax);
  const others = new Set([
    ...remembering.tracked,
    ...remembering.conditioning.filter((frame) => !selected.includes(frame)),
  ]);
  const recent = Array.from({ length: config.memoryFrameCount - 1 }, (_, index) => {
    const slot = index + 1;
    return { slot, frame: recentFrame(config.memoryFrameCount - slot, remembering, config) };
  });
  return {
    memories: [
      ...selected.map((frame) => ({ frame, slot: 0 })),
      ...recent.filter(({ frame }) => others.has(frame)),
    ],
    pointers: selectPointers(remembering, { selected, others }, config.pointers),
  };
}

/** The frame that lies `age` memories back. */
function recentFrame(
  age: number,
  { frame, reverse, training }: Remembering,
  { memoryStride }: Tracking,
): number {
  const direction = reverse ? -1 : 1;
  if (age === 1) return frame - direction;
  const stride = training ? 1 : memoryStride;
  const start = reverse ? Math.ceil((frame + 2) / stride) : Math.floor((frame - 2) / stride);
  return start * stride - direction * (age - 2) * stride;
}

/** All conditioning frames in their order, or the nearest: one before, one from here on, then by distance. */
function nearestFrames({ frame, conditioning }: Remembering, countMax: number | null): number[] {
  if (countMax === null || conditioning.length <= countMax) return [...conditioning];
  const before = conditioning.filter((other) => other < frame);
  const after = conditioning.filter((other) => other >= frame);
  const chosen = [
    ...(before.length > 0 ? [Math.max(...before)] : []),
    ...(after.length > 0 ? [Math.min(...after)] : []),
  ];
  const rest = conditioning
    .filter((other) => !chosen.includes(other))
    .sort((a, b) => Math.abs(a - frame) - Math.abs(b - frame));
  return [...chosen, ...rest].slice(0, Math.max(countMax, chosen.length));
}

type Known = { readonly selected: readonly number[]; readonly others: ReadonlySet<number> };

function selectPointers(
  { frame, frameCount, reverse, training }: Remembering,
  { selected, others }: Known,
  config: Tracking["pointers"],
): { frame: number; distance: number }[] {
  if (!config) return [];
  const countMax = Math.min(frameCount, config.countMax);
  const direction = reverse ? -1 : 1;
  const onlyPast = config.onlyPast && !training;
  const conditioning = selected
    .filter((other) => !onlyPast || (frame - other) * direction >= 0)
    .map((other) => {
      const steps = frame - other;
      return { frame: other, steps: config.signedTime ? steps * direction : Math.abs(steps) };
    });
  const recent = Array.from({ length: Math.max(0, countMax - 1) }, (_, index) => index + 1)
    .map((steps) => ({ frame: frame - direction * steps, steps }))
    .filter((other) => other.frame >= 0 && other.frame < frameCount && others.has(other.frame));
  return [...conditioning, ...recent].map((pointer) => ({
    frame: pointer.frame,
    distance: pointer.steps / (countMax - 1),
  }));
}
