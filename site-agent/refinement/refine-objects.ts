// Both stages for objects through a clip of slices. The model is a port that decodes slices, so that the order of steps
// can be proven without one. Stage 1 looks at each prompted slice alone; stage 2 looks at it again with memories on both
// sides, once upwards and once downwards. Objects know nothing of each other: they go through their slices side by side,
// so that the model answers many questions at once.
// Inferred: a pass replaces the memories behind it by refined ones and keeps those of stage 1 ahead of it.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { chunks } from "@consilium/shared/base/chunks.ts";
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

/** The memory is what the model keeps of the slice and its answer; it belongs to the caller until it is released. */
export type DecodeAnswer<Memory> = Decoded & { readonly memory: Memory };

export type RefinementModel<Memory> = ModelSizes & {
  /** Objects that may go side by side. */
  readonly objectsAtOnce: number;
  /** Answers in the order of the requests. */
  readonly decode: (requests: readonly DecodeRequest<Memory>[]) => Promise<DecodeAnswer<Memory>[]>;
  readonly release: (memory: Memory) => void;
};

/** An object through the clip: prompts of one class, at most one in each slice, and how it is refined. */
export type PromptedObject = { readonly prompts: readonly ObjectPrompt[]; readonly plan: RefinementPlan };

export type RefinedObject = {
  readonly stageOne: readonly ObjectResult[];
  readonly stageTwo: readonly ObjectResult[];
};

type FirstAnswer<Memory> = {
  readonly result: ObjectResult;
  readonly prompt: ModelPrompt;
  readonly memory: Memory;
};
type FirstAnswers<Memory> = Map<number, FirstAnswer<Memory>>;

/** @param size of the slices that the prompts were made for @returns one for each object, in their order */
export async function refineObjects<Memory>(
  objects: readonly PromptedObject[],
  model: RefinementModel<Memory>,
  size: SliceSize,
): Promise<RefinedObject[]> {
  const refined: RefinedObject[] = [];
  for (const together of chunks(objects, model.objectsAtOnce)) {
    refined.push(...(await refineTogether(together, model, size)));
  }
  return refined;
}

async function refineTogether<Memory>(
  objects: readonly PromptedObject[],
  model: RefinementModel<Memory>,
  size: SliceSize,
): Promise<RefinedObject[]> {
  const held = new Set<Memory>();
  const keeper: RefinementModel<Memory> = {
    ...{ image: model.image, maskGrid: model.maskGrid, objectsAtOnce: model.objectsAtOnce },
    release: (memory) => model.release(memory),
    decode: async (requests) => {
      const answers = await model.decode(requests);
      for (const { memory } of answers) held.add(memory);
      return answers;
    },
  };
  try {
    const firsts = await stageOne(objects, keeper, size);
    const passes = objects.flatMap(({ plan }, index) => {
      const first = expectDefined(firsts[index], "stage 1 of an object");
      const slices = slicesToRefine([...first.keys()], plan);
      return [slices, slices.toReversed()].map((order) => new StageTwoPass(order, { first, plan, model }));
    });
    await runSideBySide(passes, keeper);
    return firsts.map((first, index) => ({
      stageOne: [...first.values()].map(({ result }) => result),
      stageTwo: averagedPasses(
        passes[2 * index]?.results ?? [],
        (passes[2 * index + 1]?.results ?? []).toReversed(),
      ),
    }));
  } finally {
    for (const memory of held) model.release(memory);
  }
}

async function stageOne<Memory>(
  objects: readonly PromptedObject[],
  model: RefinementModel<Memory>,
  size: SliceSize,
): Promise<FirstAnswers<Memory>[]> {
  const asked = objects.flatMap(({ prompts, plan }, object) =>
    [...prompts]
      .sort((a, b) => a.slice - b.slice)
      .map((given) => ({ object, given, prompt: stageOnePrompt(given, { size, model, plan }) })),
  );
  const requests = asked.map(({ given, prompt }) => ({ slice: given.slice, prompt, memories: [] }));
  const answers = await model.decode(requests);
  const firsts = objects.map((): FirstAnswers<Memory> => new Map());
  asked.forEach(({ object, given: { slice, classIndex }, prompt }, index) => {
    const { memory, ...decoded } = expectDefined(answers[index], "an answer for every request");
    firsts[object]?.set(slice, { prompt, memory, result: { ...decoded, classIndex, slice } });
  });
  return firsts;
}

/** The prompted slices, and those between them where the plan wants these refined too. */
function slicesToRefine(prompted: readonly number[], { gaps }: RefinementPlan): number[] {
  const [first, last] = [prompted[0], prompted.at(-1)];
  if (gaps === "left" || first === undefined || last === undefined) return [...prompted];
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

/** Every pass takes a step, until the longest has taken its last. */
async function runSideBySide<Memory>(
  passes: readonly StageTwoPass<Memory>[],
  model: RefinementModel<Memory>,
): Promise<void> {
  for (let step = 0; ; step += 1) {
    const going = passes.flatMap((pass) => {
      const request = pass.request(step);
      return request === null ? [] : [{ pass, request }];
    });
    if (going.length === 0) return;
    const answers = await model.decode(going.map(({ request }) => request));
    going.forEach(({ pass, request }, index) => {
      pass.take(request, expectDefined(answers[index], "an answer for every request"));
    });
  }
}

type PassOptions<Memory> = {
  readonly first: ReadonlyMap<number, FirstAnswer<Memory>>;
  readonly plan: RefinementPlan;
  readonly model: ModelSizes;
};

/** One object's second stage over its slices in one order. */
class StageTwoPass<Memory> {
  readonly results: ObjectResult[] = [];
  readonly #order: readonly number[];
  readonly #options: PassOptions<Memory>;
  readonly #conditioning: readonly number[];
  readonly #latest: Map<number, Memory>;

  constructor(order: readonly number[], options: PassOptions<Memory>) {
    const answers = [...options.first.values()];
    this.#order = order;
    this.#options = options;
    this.#conditioning = conditioningSlices(
      answers.map(({ result }) => ({ ...result, areaPx: resultArea(result) })),
      options.plan,
    );
    this.#latest = new Map(answers.map(({ result, memory }) => [result.slice, memory]));
  }

  /** What is asked in a step; null after the last. */
  request(step: number): DecodeRequest<Memory> | null {
    const slice = this.#order[step];
    if (slice === undefined) return null;
    const { first, plan, model } = this.#options;
    const known = { remembered: [...this.#latest.keys()], conditioning: this.#conditioning };
    const memories = memoriesOf(slice, known, plan).flatMap((choice): MemoryUse<Memory>[] => {
      const memory = choice.isConditioning ? first.get(choice.slice)?.memory : this.#latest.get(choice.slice);
      return memory === undefined ? [] : [{ ...choice, memory }];
    });
    const answer = first.get(slice);
    const asked = answer === undefined ? null : { prompt: answer.prompt, decoded: answer.result };
    return { slice, prompt: stageTwoPrompt(asked, { model, plan }), memories };
  }

  take({ slice }: DecodeRequest<Memory>, { memory, ...decoded }: DecodeAnswer<Memory>): void {
    const [some] = this.#options.first.values();
    this.#latest.set(slice, memory);
    this.results.push({ ...decoded, slice, classIndex: some?.result.classIndex ?? 0 });
  }
}
