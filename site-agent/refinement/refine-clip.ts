// Dual-stage refinement of a clip: prompts from the prompter, both stages for every class, and the stages merged to label
// maps. Stage 0 is the prompter's own answer. Results of a stage can be merged again with another arbiter without
// decoding anything twice.

import type { ObjectPrompt } from "../prompts/object-prompt.ts";
import type { PrompterOutput } from "../prompts/prompter-output.ts";
import { prompterPrompts } from "../prompts/prompter-prompts.ts";
import { pixelsOf, type SliceSize } from "../prompts/slice-size.ts";
import { type Decision, type MergeOptions, mergedSlice } from "./merge-objects.ts";
import type { ObjectResult } from "./object-result.ts";
import { type RefinedObject, type RefinementModel, refineObject } from "./refine-object.ts";
import type { RefinementPlan } from "./refinement-plan.ts";

/** Results of all classes, class by class and slice by slice. */
export async function refineClip<Memory>(
  output: PrompterOutput,
  model: RefinementModel<Memory>,
  plan: RefinementPlan,
): Promise<RefinedObject> {
  return refinePrompts(prompterPrompts(output, { model, rule: plan.prompter }), model, {
    size: output,
    plan,
  });
}

/** The same for prompts from elsewhere; at most one for a class in a slice. */
export async function refinePrompts<Memory>(
  prompts: readonly ObjectPrompt[],
  model: RefinementModel<Memory>,
  { size, plan }: { readonly size: SliceSize; readonly plan: RefinementPlan },
): Promise<RefinedObject> {
  const classes = new Set(prompts.map(({ classIndex }) => classIndex));
  const stageOne: ObjectResult[] = [];
  const stageTwo: ObjectResult[] = [];
  for (const classIndex of [...classes].sort((a, b) => a - b)) {
    const own = prompts.filter((prompt) => prompt.classIndex === classIndex);
    const refined = await refineObject(own, model, { size, plan });
    stageOne.push(...refined.stageOne);
    stageTwo.push(...refined.stageTwo);
  }
  return { stageOne, stageTwo };
}

export type MergedClip = {
  /** [classCount, depth, height, width] */
  readonly logits: Float32Array;
  /** [depth, height, width] */
  readonly classes: Uint8Array;
  readonly decisions: readonly Decision[];
};

/** One stage's results as a label map over the clip. Inferred: stage 1 is judged by the same rule as stage 2. */
export function mergedClip(
  results: readonly ObjectResult[],
  output: PrompterOutput,
  options: Omit<MergeOptions, "slice">,
): MergedClip {
  const pixels = pixelsOf(output);
  const { depth, classCount } = output;
  const logits = new Float32Array(classCount * depth * pixels);
  const classes = new Uint8Array(depth * pixels);
  const decisions: Decision[] = [];
  for (let slice = 0; slice < depth; slice += 1) {
    const own = results.filter((result) => result.slice === slice);
    const merged = mergedSlice(own, output, { slice, ...options });
    classes.set(merged.classes, slice * pixels);
    decisions.push(...merged.decisions);
    for (let classIndex = 0; classIndex < classCount; classIndex += 1) {
      const plane = merged.logits.subarray(classIndex * pixels, (classIndex + 1) * pixels);
      logits.set(plane, (classIndex * depth + slice) * pixels);
    }
  }
  return { logits, classes, decisions };
}
