// Dual-stage refinement of a clip: prompts from the prompter, both stages for every class, and the stages merged to label
// maps. Stage 0 is the prompter's own answer. Results of a stage can be merged again with another arbiter without
// decoding anything twice.

import type { PrompterOutput } from "../prompts/prompter-output.ts";
import { prompterPrompts } from "../prompts/prompter-prompts.ts";
import { pixelsOf, type SliceSize } from "../prompts/slice-size.ts";
import type { Arbiter } from "./acceptance.ts";
import { type Decision, mergedSlice } from "./merge-objects.ts";
import type { ObjectResult } from "./object-result.ts";
import { type RefinedObject, type RefinementModel, refineObject } from "./refine-object.ts";
import type { RefinementPlan } from "./refinement-plan.ts";

/** Results of all classes, class by class and slice by slice. */
export async function refineClip<Memory>(
  output: PrompterOutput,
  model: RefinementModel<Memory>,
  plan: RefinementPlan,
): Promise<RefinedObject> {
  const prompts = prompterPrompts(output, { model, rule: plan.prompter });
  const stageOne: ObjectResult[] = [];
  const stageTwo: ObjectResult[] = [];
  for (let classIndex = 1; classIndex < output.classCount; classIndex += 1) {
    const own = prompts.filter((prompt) => prompt.classIndex === classIndex);
    if (own.length === 0) continue;
    const refined = await refineObject(own, model, { size: output, plan });
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
  { maskGrid, arbiter }: { readonly maskGrid: SliceSize; readonly arbiter: Arbiter },
): MergedClip {
  const pixels = pixelsOf(output);
  const { depth, classCount } = output;
  const logits = new Float32Array(classCount * depth * pixels);
  const classes = new Uint8Array(depth * pixels);
  const decisions: Decision[] = [];
  for (let slice = 0; slice < depth; slice += 1) {
    const own = results.filter((result) => result.slice === slice);
    const merged = mergedSlice(own, output, { slice, maskGrid, arbiter });
    classes.set(merged.classes, slice * pixels);
    decisions.push(...merged.decisions);
    for (let classIndex = 0; classIndex < classCount; classIndex += 1) {
      const plane = merged.logits.subarray(classIndex * pixels, (classIndex + 1) * pixels);
      logits.set(plane, (classIndex * depth + slice) * pixels);
    }
  }
  return { logits, classes, decisions };
}
