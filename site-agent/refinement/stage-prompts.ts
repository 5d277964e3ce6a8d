// What the model is asked in each stage, in pixels of its own image: in stage 1 the prompter's boxes and masks, in stage
// 2 the box of what stage 1 found and its logits, or the prompter's mask again.

import { maskWhere } from "@consilium/shared/base/mask-where.ts";
import { largestComponent } from "../prompts/connected-components.ts";
import { inModelPixels, type ModelPrompt, type ObjectPrompt } from "../prompts/object-prompt.ts";
import { type PixelBox, tightBox, widenedBox } from "../prompts/pixel-box.ts";
import type { ModelSizes } from "../prompts/prompter-prompts.ts";
import type { SliceSize } from "../prompts/slice-size.ts";
import type { Decoded } from "./object-result.ts";
import { FEEDBACK_LOGIT_MAX, type RefinementPlan } from "./refinement-plan.ts";

/** @param size of the slice that the prompt was made for */
export function stageOnePrompt(
  prompt: ObjectPrompt,
  {
    size,
    model,
    plan,
  }: { readonly size: SliceSize; readonly model: ModelSizes; readonly plan: RefinementPlan },
): ModelPrompt {
  const asked = inModelPixels(prompt, size, model.image);
  return plan.prompts === "boxes" ? { ...asked, maskLogits: null } : asked;
}

/**
 * The prompt of stage 2. Where stage 1 left no pixel, its own box is asked again; a slice between prompted ones, which
 * stage 1 has not seen, is asked nothing.
 * @param first what stage 1 was asked and what it answered
 */
export function stageTwoPrompt(
  first: { readonly prompt: ModelPrompt; readonly decoded: Decoded } | null,
  { model, plan }: { readonly model: ModelSizes; readonly plan: RefinementPlan },
): ModelPrompt | null {
  if (first === null) return null;
  const { prompt, decoded } = first;
  const box = boxOfLogits(decoded.logits, { model, plan }) ?? prompt.box;
  const clamped = (logit: number): number =>
    Math.min(Math.max(logit, -FEEDBACK_LOGIT_MAX), FEEDBACK_LOGIT_MAX);
  const again = plan.secondMask === "prompt" ? prompt.maskLogits : null;
  const maskLogits = plan.prompts === "boxes" ? null : (again ?? decoded.logits.map(clamped));
  return { box, points: [], maskLogits };
}

/** The box of what is above 0, in pixels of the model's image; a cell of the grid is as many pixels as it covers. */
function boxOfLogits(
  logits: Float32Array,
  { model, plan }: { readonly model: ModelSizes; readonly plan: RefinementPlan },
): PixelBox | null {
  const { image, maskGrid } = model;
  const mask = maskWhere(logits, (logit) => logit > 0);
  const part = plan.prompter.extent === "all" ? mask : largestComponent(mask, { ...maskGrid, depth: 1 });
  const cells = part && tightBox(part, maskGrid);
  if (cells === null) return null;
  const x = image.width / maskGrid.width;
  const y = image.height / maskGrid.height;
  const box = { x1: cells.x1 * x, y1: cells.y1 * y, x2: (cells.x2 + 1) * x - 1, y2: (cells.y2 + 1) * y - 1 };
  return widenedBox(box, plan.prompter.margin, image);
}
