// How far a stability score may lie from the reference: it counts logits above two thresholds, and a logit within its own
// tolerance of a threshold may count or not.

import type { tf } from "../../site-agent/backend/tensors.ts";
import type { CaseFolder } from "./case-folder.ts";
import type { Allowance } from "./comparison.ts";

type Masks = { readonly delta: number /** [B, M, H, W] */; readonly found: tf.Tensor4D };

/** @param masks the tensor whose first mask was scored */
export function stabilityAllowance(folder: CaseFolder, masks: string, { delta, found }: Masks): Allowance {
  return (expected) => {
    const [batch, count, height, width] = found.shape;
    const whole = folder.expected.get(masks);
    const stored = Object.entries(folder.tolerances).find(
      ([name]) => name === masks || name.startsWith(`${masks}@`),
    );
    const tolerance = stored?.[1].tol ?? 0;
    const logits = whole?.values ?? found.dataSync();
    for (let object = 0; object < batch; object += 1) {
      const start = object * count * height * width;
      const mask = logits.slice(start, start + height * width);
      const [least, most] = scoreRange(mask, delta, tolerance);
      const score = expected[object] ?? Number.NaN;
      if (!(score >= least - ROUNDING && score <= most + ROUNDING)) return undefined;
    }
    return "pixels within the mask's tolerance of a threshold";
  };
}

/** One division in float32. */
const ROUNDING = 1e-6;

function scoreRange(mask: ArrayLike<number>, delta: number, tolerance: number): [number, number] {
  const area = (threshold: number) => Array.from(mask).filter((logit) => logit > threshold).length;
  const [innerLeast, innerMost] = [area(delta + tolerance), area(delta - tolerance)];
  const [outerLeast, outerMost] = [area(-delta + tolerance), area(-delta - tolerance)];
  return [innerLeast / Math.max(1, outerMost), innerMost / Math.max(1, outerLeast)];
}
