// What training asks about a clip, decided before anything is differentiated: which organs in which slices, with which
// prompts in stage 1, and, from stage 1's own answers, with which prompts and memories in stage 2. Memories lie on both
// sides of a slice and are constants: no gradient flows into the slices that they come from, so that memory does not
// grow with the clip. Inferred: the paper does not say how far back its training differentiates.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { Prng } from "@consilium/shared/base/prng.ts";
import type { ModelPrompt, ObjectPrompt } from "../../prompts/object-prompt.ts";
import type { SliceSize } from "../../prompts/slice-size.ts";
import { conditioningSlices, memoriesOf } from "../../refinement/frame-selection.ts";
import { type Decoded, resultArea } from "../../refinement/object-result.ts";
import type { MemoryUse, RefinementModel } from "../../refinement/refine-objects.ts";
import type { RefinementPlan } from "../../refinement/refinement-plan.ts";
import { stageOnePrompt, stageTwoPrompt } from "../../refinement/stage-prompts.ts";

/** One organ in one slice. */
export type ClipQuestion<Memory> = {
  readonly classIndex: number;
  readonly slice: number;
  /** Null in a slice between prompted ones, which only stage 2 sees. */
  readonly first: ModelPrompt | null;
  readonly second: ModelPrompt | null;
  /** Of stage 2; without any there is no second stage. */
  readonly memories: readonly MemoryUse<Memory>[];
};

export type AskingOptions<Memory> = {
  readonly model: RefinementModel<Memory>;
  readonly size: SliceSize;
  readonly plan: RefinementPlan;
  readonly prng: Prng;
  /** At most so many slices are asked, about at most so many organs. */
  readonly queries: number;
  readonly objects: number;
  /** Every memory that is made; they belong to the caller. */
  readonly keep: (memory: Memory) => void;
};

export async function clipQuestions<Memory>(
  prompts: readonly ObjectPrompt[],
  options: AskingOptions<Memory>,
): Promise<ClipQuestion<Memory>[]> {
  const { prng, queries, objects } = options;
  const classes = [...new Set(prompts.map(({ classIndex }) => classIndex))];
  const chosen = prng.shuffled(classes).slice(0, objects);
  const own = chosen.flatMap((classIndex) => prompts.filter((prompt) => prompt.classIndex === classIndex));
  const answers = await firstAnswers(own, options);
  const all = chosen.flatMap((classIndex) =>
    objectQuestions(
      classIndex,
      answers.filter((answer) => answer.classIndex === classIndex),
      options,
    ),
  );
  const slices = [...new Set(all.map(({ slice }) => slice))];
  const asked = new Set(prng.shuffled(slices).slice(0, queries));
  return all.filter(({ slice }) => asked.has(slice));
}

type First<Memory> = {
  readonly classIndex: number;
  readonly slice: number;
  readonly prompt: ModelPrompt;
  readonly decoded: Decoded;
  readonly memory: Memory;
};

/** Stage 1 of all organs, in the order of the prompts. */
async function firstAnswers<Memory>(
  prompts: readonly ObjectPrompt[],
  { model, size, plan, keep }: AskingOptions<Memory>,
): Promise<First<Memory>[]> {
  const asked = prompts.map((given) => stageOnePrompt(given, { size, model, plan }));
  const requests = prompts.map(({ slice }, index) => ({ slice, prompt: asked[index] ?? null, memories: [] }));
  const answers = await model.decode(requests);
  for (const { memory } of answers) keep(memory);
  return prompts.map(({ classIndex, slice }, index) => {
    const { memory, ...decoded } = expectDefined(answers[index], "an answer for every prompt");
    const prompt = expectDefined(asked[index], "what was asked");
    return { classIndex, slice, prompt, decoded, memory };
  });
}

function objectQuestions<Memory>(
  classIndex: number,
  answers: readonly First<Memory>[],
  { model, plan }: AskingOptions<Memory>,
): ClipQuestion<Memory>[] {
  const known = new Map(answers.map((answer) => [answer.slice, answer]));
  const candidates = answers.map(({ slice, decoded }) => ({
    ...decoded,
    slice,
    areaPx: resultArea(decoded),
  }));
  const frames = { remembered: [...known.keys()], conditioning: conditioningSlices(candidates, plan) };
  const questions = refinedSlices([...known.keys()], plan).map((slice) => {
    const first = known.get(slice) ?? null;
    const memories = memoriesOf(slice, frames, plan).flatMap((choice): MemoryUse<Memory>[] => {
      const memory = known.get(choice.slice)?.memory;
      return memory === undefined ? [] : [{ ...choice, memory }];
    });
    // Who is asked with boxes alone in stage 1 is asked so in stage 2: what is trained is what prediction asks.
    const prompts = first?.prompt.maskLogits ? plan.prompts : "boxes";
    const second = stageTwoPrompt(first, { model, plan: { ...plan, prompts } });
    return { classIndex, slice, first: first?.prompt ?? null, second, memories };
  });
  return questions.filter(({ first, memories }) => first !== null || memories.length > 0);
}

function refinedSlices(prompted: readonly number[], { gaps }: RefinementPlan): number[] {
  if (gaps === "left" || prompted.length === 0) return [...prompted];
  const first = Math.min(...prompted);
  return Array.from({ length: Math.max(...prompted) - first + 1 }, (_, index) => first + index);
}
