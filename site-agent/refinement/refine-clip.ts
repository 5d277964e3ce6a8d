// Dual-stage refinement of a clip: prompts from the prompter, both stages for every class, and the stages merged to label
// maps. Stage 0 is the prompter's own answer. Results of a stage can be merged again with another arbiter without
// decoding anything twice.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { ObjectPrompt } from "../prompts/object-prompt.ts";
import type { PrompterOutput } from "../prompts/prompter-output.ts";
import { prompterPrompts } from "../prompts/prompter-prompts.ts";
import { pixelsOf, type SliceSize } from "../prompts/slice-size.ts";
import { type Decision, type MergeOptions, mergedSlice } from "./merge-objects.ts";
import type { ObjectResult } from "./object-result.ts";
import { type RefinedObject, type RefinementModel, refineObjects } from "./refine-objects.ts";
import type { RefinementPlan } from "./refinement-plan.ts";

/** Results of all classes, class by class and slice by slice. */
export async function refineClip<Memory>(
  output: PrompterOutput,
  model: RefinementModel<Memory>,
  plan: RefinementPlan,
): Promise<RefinedObject> {
  const prompts = prompterPrompts(output, { model, rule: plan.prompter });
  const [refined] = await refineRuns([{ prompts, plan }], model, output);
  return expectDefined(refined, "a run");
}

/** Prompts of any origin, at most one for a class in a slice, and how they are refined. */
export type PromptedRun = { readonly prompts: readonly ObjectPrompt[]; readonly plan: RefinementPlan };

/** Several runs over the same clip, which know nothing of each other. @returns one for each run, in their order */
export async function refineRuns<Memory>(
  runs: readonly PromptedRun[],
  model: RefinementModel<Memory>,
  size: SliceSize,
): Promise<RefinedObject[]> {
  const objects = runs.flatMap(({ prompts, plan }, run) => {
    const classes = [...new Set(prompts.map(({ classIndex }) => classIndex))].sort((a, b) => a - b);
    return classes.map((classIndex) => ({
      ...{ run, plan },
      prompts: prompts.filter((prompt) => prompt.classIndex === classIndex),
    }));
  });
  const refined = await refineObjects(objects, model, size);
  return runs.map((_, run) => {
    const own = refined.filter((_object, index) => objects[index]?.run === run);
    return {
      stageOne: own.flatMap(({ stageOne }) => stageOne),
      stageTwo: own.flatMap(({ stageTwo }) => stageTwo),
    };
  });
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
