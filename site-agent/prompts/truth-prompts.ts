// Prompts from drawn labels, for training and for the upper limit of a comparison. A score reached with them is never
// automatic: who prompts with the truth knows where the object is. They hold boxes and points, never masks.

import type { Prng } from "@consilium/shared/base/prng.ts";
import { largestComponent } from "./connected-components.ts";
import { isPresent, type ObjectPrompt } from "./object-prompt.ts";
import { type BoxJitter, jitteredBox, tightBox } from "./pixel-box.ts";
import { uniformPoints } from "./prompt-points.ts";
import { classMask, type ObjectPlace } from "./prompter-output.ts";
import type { SliceSize, StackSize } from "./slice-size.ts";

export type TruthPromptKind =
  | { readonly kind: "box"; readonly jitter: BoxJitter }
  | { readonly kind: "points"; readonly positiveCount: number; readonly negativeCount: number };

/** Drawn class indices [depth, height, width]; 0 is background. */
export type TruthStack = StackSize & { readonly classes: Uint8Array };

/**
 * The prompt of one object in one slice, or null where it is absent or too small. The box goes round the largest
 * connected part; its jitter is bounded in pixels of the model's image.
 */
export function truthPrompt(
  truth: TruthStack,
  place: ObjectPlace,
  { image, kind, prng }: { readonly image: SliceSize; readonly kind: TruthPromptKind; readonly prng: Prng },
): ObjectPrompt | null {
  const mask = classMask(truth.classes, truth, place);
  const areaPx = mask.reduce((sum, value) => sum + value, 0);
  const part = isPresent(areaPx, truth, image) ? largestComponent(mask, { ...truth, depth: 1 }) : null;
  const tight = part && tightBox(part, truth);
  if (tight === null || part === null) return null;
  const prompt = { ...place, source: "truth", maskLogits: null, areaPx } as const;
  if (kind.kind === "points") {
    return { ...prompt, box: null, points: uniformPoints(mask, kind, { size: truth, prng }) };
  }
  const pixelsMax = kind.jitter.pixelsMax * Math.min(truth.width / image.width, truth.height / image.height);
  const box = jitteredBox(tight, { ...kind.jitter, pixelsMax }, { size: truth, prng });
  return { ...prompt, box, points: [] };
}
