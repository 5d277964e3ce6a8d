// Both stages for one object through a clip of slices. The model is a port that decodes one slice at a time, so that the
// order of steps can be proven without one. Stage 1 looks at each prompted slice alone; stage 2 looks at it again with
// memories on both sides, once upwards and once downwards.
// Inferred: a pass replaces the memories behind it by refined ones and keeps those of stage 1 ahead of it.

import type { ModelPrompt, ObjectPrompt } from "../prompts/object-prompt.ts";
import type { ModelSizes } from "../prompts/prompter-prompts.ts";
import type { SliceSize } from "../prompts/slice-size.ts";
import { conditioningSlices, type MemoryChoice, memoriesOf } from "./frame-selection.ts";
import { averagedPasses, type Decoded, type ObjectResult, resultArea } from "./object-result.ts";
import type { RefinementPlan } from "./refinement-plan.ts";
import { stageOnePrompt, stageTwoPrompt } from "./stage-prompts.ts";

export type MemoryUse<Memory> = MemoryChoice & { readonly memory: Memory };

/** What one slice is decoded from: no memory at all in stage 1, no prompt in a slice between prompted ones. */
export type DecodeRequest<Memory> = {
  readonly slice: number;
  readonly prompt: ModelPrompt | null;
  readonly memories: readonly MemoryUse<Memory>[];
};

export type RefinementModel<Memory> = ModelSizes & {
  /** The memory is what the model keeps of this slice and answer; it belongs to the caller until it is released. */
  readonly decode: (request: DecodeRequest<Memory>) => Promise<Decoded & { readonly memory: Memory }>;
  readonly release: (memory: Memory) => void;
};

export type RefinedObject = {
  readonly stageOne: readonly ObjectResult[];
  readonly stageTwo: readonly ObjectResult[];
};

type FirstAnswer<Memory> = {
  readonly result: ObjectResult;
  readonly prompt: ModelPrompt;
  readonly memory: Memory;
};

/**
 * @param prompts of one class, at most one in each slice
 * @param size    of the slices that the prompts were made for
 */
export async function refineObject<Memory>(
  prompts: readonly ObjectPrompt[],
  model: RefinementModel<Memory>,
  { size, plan }: { readonly size: SliceSize; readonly plan: RefinementPlan },
): Promise<RefinedObject> {
  const held = new Set<Memory>();
  const keeper: RefinementModel<Memory> = {
    image: model.image,
    maskGrid: model.maskGrid,
    release: (memory) => model.release(memory),
    decode: async (request) => {
      const answer = await model.decode(request);
      held.add(answer.memory);
      return answer;
    },
  };
  try {
    const first = await stageOne(prompts, keeper, { size, plan });
    const slices = slicesToRefine([...first.keys()], plan);
    const forward = await stageTwoPass(slices, { first, model: keeper, plan });
    const backward = await stageTwoPass(slices.toReversed(), { first, model: keeper, plan });
    return {
      stageOne: [...first.values()].map(({ result }) => result),
      stageTwo: averagedPasses(forward, backward.toReversed()),
    };
  } finally {
    for (const memory of held) model.release(memory);
  }
}

async function stageOne<Memory>(
  prompts: readonly ObjectPrompt[],
  model: RefinementModel<Memory>,
  { size, plan }: { readonly size: SliceSize; readonly plan: RefinementPlan },
): Promise<Map<number, FirstAnswer<Memory>>> {
  const answers = new Map<number, FirstAnswer<Memory>>();
  for (const given of [...prompts].sort((a, b) => a.slice - b.slice)) {
    const { slice, classIndex } = given;
    const prompt = stageOnePrompt(given, { size, model, plan });
    const { memory, ...decoded } = await model.decode({ slice, prompt, memories: [] });
    answers.set(slice, { prompt, memory, result: { ...decoded, classIndex, slice } });
  }
  return answers;
}

/** The prompted slices, and those between them where the plan wants these refined too. */
function slicesToRefine(prompted: readonly number[], { gaps }: RefinementPlan): number[] {
  const [first, last] = [prompted[0], prompted.at(-1)];
  if (gaps === "left" || first === undefined || last === undefined) return [...prompted];
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

type PassOptions<Memory> = {
  readonly first: ReadonlyMap<number, FirstAnswer<Memory>>;
  readonly model: RefinementModel<Memory>;
  readonly plan: RefinementPlan;
};

/** One pass over the slices in the given order. */
async function stageTwoPass<Memory>(
  slices: readonly number[],
  { first, model, plan }: PassOptions<Memory>,
): Promise<ObjectResult[]> {
  const answers = [...first.values()];
  const conditioning = conditioningSlices(
    answers.map(({ result }) => ({ ...result, areaPx: resultArea(result) })),
    plan,
  );
  const latest = new Map(answers.map(({ result, memory }) => [result.slice, memory]));
  const results: ObjectResult[] = [];
  for (const slice of slices) {
    const chosen = memoriesOf(slice, { remembered: [...latest.keys()], conditioning }, plan);
    const memories = chosen.flatMap((choice): MemoryUse<Memory>[] => {
      const memory = choice.isConditioning ? first.get(choice.slice)?.memory : latest.get(choice.slice);
      return memory === undefined ? [] : [{ ...choice, memory }];
    });
    const answer = first.get(slice);
    const asked = answer === undefined ? null : { prompt: answer.prompt, decoded: answer.result };
    const prompt = stageTwoPrompt(asked, { model, plan });
    const { memory, ...decoded } = await model.decode({ slice, prompt, memories });
    latest.set(slice, memory);
    results.push({ ...decoded, slice, classIndex: answers[0]?.result.classIndex ?? 0 });
  }
  return results;
}
