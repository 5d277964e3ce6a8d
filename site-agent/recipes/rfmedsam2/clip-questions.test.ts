import { Prng } from "@consilium/shared/base/prng.ts";
import t from "tap";
import type { ObjectPrompt } from "../../prompts/object-prompt.ts";
import type { RefinementModel } from "../../refinement/refine-objects.ts";
import { REFINEMENT_PLAN } from "../../refinement/refinement-plan.ts";
import { clipQuestions } from "./clip-questions.ts";

const size = { height: 8, width: 8 };
const maskGrid = { height: 2, width: 2 };

/** Answers every question with the same mask; memories are the numbers of their slices. */
const model: RefinementModel<number> = {
  ...{ image: size, maskGrid, objectsAtOnce: 4 },
  decode: async (requests) =>
    requests.map(({ slice }) => ({
      ...{ logits: Float32Array.of(3, -3, -3, -3), iouScore: 0.9, objectLogit: 1, memory: slice },
    })),
  release: () => {},
};

const prompt = (slice: number, maskLogits: Float32Array | null): ObjectPrompt => ({
  ...{ classIndex: 1, slice, source: "truth", points: [], maskLogits, areaPx: 4 },
  box: { x1: 1, y1: 1, x2: 2, y2: 2 },
});

async function asked(prompts: readonly ObjectPrompt[]) {
  const kept: number[] = [];
  const options = { model, size, plan: REFINEMENT_PLAN, prng: new Prng(1), queries: 8, objects: 2 };
  const questions = await clipQuestions(prompts, { ...options, keep: (memory) => void kept.push(memory) });
  return { kept, questions: [...questions].sort((a, b) => a.slice - b.slice) };
}

t.test(
  "stage 2 is asked with a mask where stage 1 was, and with its box alone where stage 1 was",
  async (t) => {
    const mask = Float32Array.of(1, 1, -1, -1);
    const { questions, kept } = await asked([prompt(0, mask), prompt(1, null), prompt(2, mask)]);
    t.strictSame(kept, [0, 1, 2], "every memory belongs to the caller");
    t.strictSame(
      questions.map(({ first, second }) => [first?.maskLogits !== null, second?.maskLogits !== null]),
      [
        [true, true],
        [false, false],
        [true, true],
      ],
    );
    t.ok(questions.every(({ second }) => second?.box));
    t.strictSame(
      questions.map(({ memories }) => memories.map(({ slice }) => slice).sort()),
      [
        [1, 2],
        [0, 2],
        [0, 1],
      ],
      "no slice remembers itself",
    );
  },
);

t.test("a slice between prompted ones is asked from memory alone", async (t) => {
  const { questions } = await asked([prompt(0, null), prompt(2, null)]);
  const between = questions.find(({ slice }) => slice === 1);
  t.match(between, { first: null, second: null });
  t.equal(between?.memories.length, 2);
});
