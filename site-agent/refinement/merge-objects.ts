// The objects of one slice as one label map: background has logit 0, and of all objects the one with the highest logit
// above it wins. A pixel that nobody claims may go to the prompter where the prompter saw an object too small to ask about.

import { assert } from "@consilium/shared/base/assert.ts";
import { maskWhere } from "@consilium/shared/base/mask-where.ts";
import { clampedLogit } from "../prompts/mask-logits.ts";
import { classMask, type PrompterOutput, probabilityPlane } from "../prompts/prompter-output.ts";
import { resizedPlane } from "../prompts/resize-plane.ts";
import { pixelsOf, type SliceSize } from "../prompts/slice-size.ts";
import {
  type AcceptanceRule,
  type Arbiter,
  averagedLogits,
  keptLogits,
  type Verdict,
  verdictOn,
} from "./acceptance.ts";
import type { ObjectResult } from "./object-result.ts";
import { FEEDBACK_LOGIT_MAX } from "./refinement-plan.ts";

/** Inferred: what an object has where it was not found; no surer than a prompter may be, so that overlapping clips can differ. */
export const ABSENT_LOGIT = -10;
/** Inferred: a pixel goes to the prompter's class from this probability. */
const PROMPTER_PROBABILITY_MIN = 0.5;

export type Decision = { readonly classIndex: number; readonly slice: number; readonly verdict: Verdict };

export type MergedSlice = {
  /** [classCount, height, width]; class 0 is 0 everywhere. */
  readonly logits: Float32Array;
  /** [height, width] */
  readonly classes: Uint8Array;
  readonly decisions: readonly Decision[];
};

export type MergeOptions = {
  readonly slice: number;
  /** Size of the results' logits. */
  readonly maskGrid: SliceSize;
  readonly arbiter: Arbiter;
  readonly acceptance?: AcceptanceRule;
};

/**
 * @param results of one stage in this slice, at most one of each class
 * @param output  the prompter's, on the slices' own grid
 */
export function mergedSlice(
  results: readonly ObjectResult[],
  output: PrompterOutput,
  options: MergeOptions,
): MergedSlice {
  const pixels = pixelsOf(output);
  const logits = new Float32Array(output.classCount * pixels).fill(ABSENT_LOGIT);
  logits.fill(0, 0, pixels);
  const asked = new Set<number>();
  const decisions = results.map((result): Decision => {
    const { classIndex, slice } = result;
    assert(slice === options.slice && !asked.has(classIndex), "one result for each object of the slice");
    asked.add(classIndex);
    const { verdict, plane } = judged(result, output, options);
    if (plane !== null) logits.set(plane, classIndex * pixels);
    return { classIndex, slice, verdict };
  });
  if (options.arbiter === "prompter") fillUnasked(logits, { output, asked, slice: options.slice });
  return { logits, classes: winners(logits, output.classCount), decisions };
}

/** The object's logits on the slice's grid: the refined ones, the prompter's, or none. */
function judged(
  result: ObjectResult,
  output: PrompterOutput,
  { maskGrid, arbiter, acceptance }: MergeOptions,
): { readonly verdict: Verdict; readonly plane: Float32Array | null } {
  const refinedLogits = resizedPlane(result.logits, maskGrid, output).map((logit) =>
    Math.min(Math.max(logit, -FEEDBACK_LOGIT_MAX), FEEDBACK_LOGIT_MAX),
  );
  const refined = maskWhere(refinedLogits, (logit) => logit > 0);
  const initial = classMask(output.classes, output, result);
  const { iouScore, objectLogit } = result;
  const verdict = verdictOn({ refined, initial, iouScore, objectLogit }, arbiter, acceptance);
  if (arbiter === "model") return { verdict, plane: verdict === "accepted" ? refinedLogits : null };
  const probabilities = probabilityPlane(output, result);
  if (verdict !== "accepted") return { verdict, plane: keptLogits(probabilities, initial) };
  const averages = acceptance?.accepted === "averages";
  return { verdict, plane: averages ? averagedLogits(refinedLogits, probabilities) : refinedLogits };
}

/** Pixels without a winner, where the prompter is sure of an object that the model was not asked about. */
function fillUnasked(
  logits: Float32Array,
  { output, asked, slice }: { output: PrompterOutput; asked: ReadonlySet<number>; slice: number },
): void {
  const pixels = pixelsOf(output);
  const won = winners(logits, output.classCount);
  for (let pixel = 0; pixel < pixels; pixel += 1) {
    const classIndex = output.classes[slice * pixels + pixel] ?? 0;
    if (won[pixel] !== 0 || classIndex === 0 || asked.has(classIndex)) continue;
    const probability = probabilityPlane(output, { classIndex, slice })[pixel] ?? 0;
    if (probability > PROMPTER_PROBABILITY_MIN)
      logits[classIndex * pixels + pixel] = clampedLogit(probability);
  }
}

/** Index of the highest logit of each pixel, of equal ones the first, so that background wins at 0. */
export function winners(logits: Float32Array, classCount: number): Uint8Array {
  const pixels = logits.length / classCount;
  assert(Number.isInteger(pixels), "one logit for each class and pixel");
  const classes = new Uint8Array(pixels);
  const best = logits.slice(0, pixels);
  for (let classIndex = 1; classIndex < classCount; classIndex += 1) {
    for (let pixel = 0; pixel < pixels; pixel += 1) {
      const logit = logits[classIndex * pixels + pixel] ?? 0;
      if (logit <= (best[pixel] ?? 0)) continue;
      best[pixel] = logit;
      classes[pixel] = classIndex;
    }
  }
  return classes;
}

/** Share of the objects whose refined mask was not taken; null where there was none. */
export function refusedShare(decisions: readonly Decision[]): number | null {
  if (decisions.length === 0) return null;
  return decisions.filter(({ verdict }) => verdict !== "accepted").length / decisions.length;
}
