// The prompt of one object in one slice, in pixels of that slice, and the same in pixels of the model's image. Coordinates
// scale with the image; the prompt encoder adds the half pixel.

import type { PixelBox } from "./pixel-box.ts";
import type { PromptPoint } from "./prompt-points.ts";
import type { ObjectPlace } from "./prompter-output.ts";
import type { SliceSize } from "./slice-size.ts";

export type PromptSource = "truth" | "prompter";

export type ObjectPrompt = ObjectPlace & {
  /** Where the box or the points come from; never shown as automatic where it is the truth. */
  readonly source: PromptSource;
  readonly box: PixelBox | null;
  readonly points: readonly PromptPoint[];
  /** Logits on the model's mask grid, row-major. */
  readonly maskLogits: Float32Array | null;
  /** Pixels of the mask that the prompt stands for, at the slice's own size. */
  readonly areaPx: number;
};

/** What the model is asked, in pixels of its own image. */
export type ModelPrompt = {
  readonly box: PixelBox | null;
  readonly points: readonly PromptPoint[];
  readonly maskLogits: Float32Array | null;
};

/** SAM 2's own convention: coordinates times the ratio of the sides. */
export function inModelPixels(prompt: ModelPrompt, size: SliceSize, model: SliceSize): ModelPrompt {
  const x = (value: number): number => (value * model.width) / size.width;
  const y = (value: number): number => (value * model.height) / size.height;
  const { box, points, maskLogits } = prompt;
  return {
    box: box && { x1: x(box.x1), y1: y(box.y1), x2: x(box.x2), y2: y(box.y2) },
    points: points.map((point) => ({ ...point, x: x(point.x), y: y(point.y) })),
    maskLogits,
  };
}

/** Inferred: an object below this area, in pixels of the model's image, is taken for noise and not prompted. */
export const OBJECT_AREA_MIN_PX = 10;

export function isPresent(areaPx: number, size: SliceSize, model: SliceSize): boolean {
  const scale = (model.height * model.width) / (size.height * size.width);
  return areaPx * scale >= OBJECT_AREA_MIN_PX;
}
