// The prompts of one step: for every object a box with jitter, a point, or a box with a rough mask, and corrections where
// an answer was wrong. All objects of a step are prompted in the same way, as in SAM 2's own training.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { Prng } from "@consilium/shared/base/prng.ts";
import type { PointPrompts } from "../models/sam2/prompt-encoder.ts";
import { maskLogitsFromTruth } from "../prompts/mask-logits.ts";
import { type BoxJitter, jitteredBox, type PixelBox, SAM2_JITTER, tightBox } from "../prompts/pixel-box.ts";
import { correctionPoints, type PromptPoint, uniformPoints } from "../prompts/prompt-points.ts";
import { PROMPT_POLICY } from "../prompts/prompt-simulation.ts";

export const PROMPT_KINDS = ["box", "point", "box-and-mask"] as const;
export type PromptKind = (typeof PROMPT_KINDS)[number];

export type ExamplePrompts = {
  readonly points: PointPrompts;
  /** Logits on the model's mask grid, one array for every object; null without mask prompts. */
  readonly masks: readonly Float32Array[] | null;
};

const CORNER_LABELS = [2, 3] as const;

/** @param masks of the objects, each [side, side] with a pixel at least */
export function drawPrompts(
  kind: PromptKind,
  masks: readonly Uint8Array[],
  { side, prng }: { readonly side: number; readonly prng: Prng },
): ExamplePrompts {
  const size = { height: side, width: side };
  if (kind === "point") {
    const points = masks.map((mask) =>
      uniformPoints(mask, { positiveCount: 1, negativeCount: 0 }, { size, prng }).flatMap(pointRow),
    );
    return { points: pointPrompts(points), masks: null };
  }
  const boxes = masks.map((mask) => boxRow(drawBox(mask, side, { jitter: SAM2_JITTER, prng })));
  if (kind === "box") return { points: pointPrompts(boxes), masks: null };
  const grid = { height: side / 4, width: side / 4 };
  const rough = { roughness: PROMPT_POLICY.roughness, prng };
  const given = masks.map((mask) => maskLogitsFromTruth(mask, { size, grid }, rough));
  return { points: pointPrompts(boxes), masks: given };
}

/** A box round the whole mask, with jitter. */
export function drawBox(
  mask: Uint8Array,
  side: number,
  { jitter, prng }: { readonly jitter: BoxJitter; readonly prng: Prng },
): PixelBox {
  const size = { height: side, width: side };
  return jitteredBox(expectDefined(tightBox(mask, size) ?? undefined, "a pixel"), jitter, { size, prng });
}

/** The prompts so far and for every object one point more where its answer was wrong, with the answer as mask prompt. */
export function correctedPrompts(
  { points }: ExamplePrompts,
  answer: { readonly truth: readonly Uint8Array[]; readonly predicted: readonly Uint8Array[] },
  { lowLogits, side, prng }: { readonly lowLogits: readonly Float32Array[]; side: number; prng: Prng },
): ExamplePrompts {
  const size = { height: side, width: side };
  const rows = answer.truth.map((truth, object) => {
    const predicted = expectDefined(answer.predicted[object], "an answer");
    const before = rowsOf(points, object);
    return [...before, ...correctionPoints({ truth, predicted }, 1, { size, prng }).flatMap(pointRow)];
  });
  return { points: pointPrompts(rows), masks: lowLogits };
}

type Row = { readonly x: number; readonly y: number; readonly label: number };

function boxRow({ x1, y1, x2, y2 }: PixelBox): Row[] {
  return [
    { x: x1, y: y1, label: CORNER_LABELS[0] },
    { x: x2, y: y2, label: CORNER_LABELS[1] },
  ];
}

function pointRow({ x, y, isPositive }: PromptPoint): Row[] {
  return [{ x, y, label: Number(isPositive) }];
}

/** Objects have equally many rows. */
function pointPrompts(objects: readonly (readonly Row[])[]): PointPrompts {
  const rows = objects.flat();
  return {
    coordinates: rows.flatMap(({ x, y }) => [x, y]),
    labels: rows.map(({ label }) => label),
    pointCount: objects[0]?.length ?? 0,
  };
}

function rowsOf({ coordinates, labels, pointCount }: PointPrompts, object: number): Row[] {
  return Array.from({ length: pointCount }, (_, index) => {
    const row = object * pointCount + index;
    return { x: coordinates[2 * row] ?? 0, y: coordinates[2 * row + 1] ?? 0, label: labels[row] ?? 0 };
  });
}
