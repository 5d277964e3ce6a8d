import { Prng } from "@consilium/shared/base/prng.ts";
import t from "tap";
import { inModelPixels, isPresent } from "./object-prompt.ts";
import {
  PROMPT_POLICY,
  type PromptedClip,
  type PromptPolicy,
  simulatedClipPrompts,
} from "./prompt-simulation.ts";
import { probabilityPlane, prompterMask, prompterOutput } from "./prompter-output.ts";
import { PROMPTER_RULE, prompterPrompt, prompterPrompts } from "./prompter-prompts.ts";
import { truthPrompt } from "./truth-prompts.ts";

const SIZE = { height: 16, width: 16 };
const MODEL = { image: { height: 64, width: 64 }, maskGrid: { height: 16, width: 16 } };

type Patch = { readonly x: number; readonly y: number; readonly side: number; readonly classIndex: number };

/** Classes [depth, 16, 16] with squares painted into each slice. */
function painted(slices: readonly (readonly Patch[])[]): Uint8Array {
  const classes = new Uint8Array(slices.length * 256);
  slices.forEach((patches, slice) => {
    for (const { x, y, side, classIndex } of patches) {
      for (let row = y; row < y + side; row += 1) {
        classes.fill(classIndex, slice * 256 + row * 16 + x, slice * 256 + row * 16 + x + side);
      }
    }
  });
  return classes;
}

/** A prompter that is `sure` of these classes. */
function prompterOf(classes: Uint8Array, { classCount = 3, sure = 0.8 } = {}) {
  const channelsLast = new Float32Array(classes.length * classCount).fill((1 - sure) / (classCount - 1));
  classes.forEach((classIndex, voxel) => {
    channelsLast[voxel * classCount + classIndex] = sure;
  });
  return prompterOutput(channelsLast, { depth: classes.length / 256, ...SIZE, classCount });
}

const seen = painted([
  [
    { x: 2, y: 3, side: 5, classIndex: 1 },
    { x: 12, y: 12, side: 2, classIndex: 1 },
  ],
  [{ x: 8, y: 8, side: 4, classIndex: 2 }],
]);

t.test(
  "a prompter's output is turned to planes, and objects are taken by likelihood or threshold",
  async (t) => {
    const output = prompterOf(seen);
    t.strictSame(output.classes, seen);
    t.equal(probabilityPlane(output, { classIndex: 2, slice: 1 })[8 * 16 + 8], Math.fround(0.8));
    t.equal(probabilityPlane(output, { classIndex: 1, slice: 1 })[8 * 16 + 8], Math.fround(0.1));
    const place = { classIndex: 1, slice: 0 };
    const count = (mask: Uint8Array): number => mask.reduce((sum, value) => sum + value, 0);
    t.equal(count(prompterMask(output, place, { kind: "likeliest" })), 29);
    t.equal(count(prompterMask(output, place, { kind: "threshold", probability: 0.9 })), 0);
    t.equal(count(prompterMask(output, place, { kind: "threshold", probability: 0.05 })), 256);
    const tie = prompterOutput(Float32Array.of(0.5, 0.5), { depth: 1, height: 1, width: 1, classCount: 2 });
    t.equal(tie.classes[0], 0, "of equal ones background");
  },
);

t.test("a prompter's prompt is the largest part's box with a margin, and its log-odds", async (t) => {
  const output = prompterOf(seen);
  const prompt = prompterPrompt(output, { classIndex: 1, slice: 0 }, { model: MODEL });
  t.match(prompt, { source: "prompter", areaPx: 29, box: { x1: 1, y1: 2, x2: 7, y2: 8 }, points: [] });
  t.equal(prompt?.maskLogits?.[4 * 16 + 4], Math.fround(Math.log(Math.fround(0.8) / (1 - Math.fround(0.8)))));
  const all = { ...PROMPTER_RULE, extent: "all" } as const;
  t.match(prompterPrompt(output, { classIndex: 1, slice: 0 }, { model: MODEL, rule: all }), {
    box: { x1: 1, y1: 2, x2: 14, y2: 14 },
  });
  t.strictSame(
    prompterPrompts(output, { model: MODEL }).map(({ classIndex, slice }) => [classIndex, slice]),
    [
      [1, 0],
      [2, 1],
    ],
  );
  t.equal(prompterPrompt(output, { classIndex: 2, slice: 0 }, { model: MODEL }), null, "nothing there");
});

t.test("an object below ten pixels of the model's image is not prompted", async (t) => {
  t.equal(isPresent(1, SIZE, MODEL.image), true, "one pixel is sixteen of the model's");
  t.equal(isPresent(9, SIZE, SIZE), false);
  t.equal(isPresent(10, SIZE, SIZE), true);
  const small = { image: { height: 8, width: 8 }, maskGrid: { height: 2, width: 2 } };
  const counts = prompterPrompts(prompterOf(seen), { model: small }).length;
  t.equal(counts, 0, "29 and 16 pixels are 7.25 and 4 of the model's");
});

t.test("prompts go to the model's pixels by the ratio of the sides", async (t) => {
  const point = { x: 3, y: 5, isPositive: true };
  const box = { x1: 1, y1: 2, x2: 7, y2: 8 };
  t.strictSame(inModelPixels({ box, points: [point], maskLogits: null }, SIZE, { height: 32, width: 64 }), {
    box: { x1: 4, y1: 4, x2: 28, y2: 16 },
    points: [{ x: 12, y: 10, isPositive: true }],
    maskLogits: null,
  });
});

t.test("prompts from the truth hold a box or points, never a mask", async (t) => {
  const truth = { depth: 2, ...SIZE, classes: seen };
  const options = { image: MODEL.image, prng: new Prng(2) };
  const exact = { kind: "box", jitter: { share: 0, pixelsMax: 0 } } as const;
  const place = { classIndex: 1, slice: 0 };
  t.match(truthPrompt(truth, place, { ...options, kind: exact }), {
    source: "truth",
    box: { x1: 2, y1: 3, x2: 6, y2: 7 },
    maskLogits: null,
  });
  const points = truthPrompt(truth, place, {
    ...options,
    kind: { kind: "points", positiveCount: 2, negativeCount: 1 },
  });
  t.strictSame(
    points?.points.map(({ isPositive }) => isPositive),
    [true, true, false],
  );
  t.equal(points?.box, null);
  t.equal(truthPrompt(truth, { classIndex: 2, slice: 0 }, { ...options, kind: exact }), null);
  // 20 pixels of a model's image of 1024 are less than a third of one here.
  const fine = { image: { height: 1024, width: 1024 }, prng: new Prng(2) };
  const jitter = { share: 1, pixelsMax: 20 };
  const moved = Array.from({ length: 100 }, () => {
    const prompt = truthPrompt(truth, place, { ...fine, kind: { kind: "box", jitter } });
    return Math.abs((prompt?.box?.x1 ?? 99) - 2);
  }).reduce((most, one) => Math.max(most, one));
  t.ok(moved > 0.25 && moved <= 20 / 64, `${moved} pixels`);
});

const drawn = painted([
  [{ x: 2, y: 2, side: 6, classIndex: 1 }],
  [
    { x: 2, y: 2, side: 6, classIndex: 1 },
    { x: 10, y: 10, side: 4, classIndex: 2 },
  ],
  [],
]);
const prompted = painted([
  [{ x: 3, y: 3, side: 6, classIndex: 1 }],
  [],
  [{ x: 9, y: 0, side: 3, classIndex: 1 }],
]);
const clip: PromptedClip = {
  truth: { depth: 3, ...SIZE, classes: drawn },
  prompter: prompterOf(prompted),
  drawnClasses: [1, 2],
};
const simulate = (over: Partial<PromptPolicy>, seed = 1, from = clip) =>
  simulatedClipPrompts(from, { model: MODEL, policy: { ...PROMPT_POLICY, ...over }, prng: new Prng(seed) });
const places = (prompts: ReturnType<typeof simulate>): string[] =>
  prompts.map(({ classIndex, slice, source }) => `${classIndex}/${slice} ${source}`);

t.test(
  "simulated prompts come from the truth, from the prompter, or from the truth where the prompter is blind",
  async (t) => {
    t.strictSame(places(simulate({ truthShare: 1 })), ["1/0 truth", "1/1 truth", "2/1 truth"]);
    t.strictSame(
      places(simulate({ truthShare: 0 })),
      ["1/0 prompter", "1/1 truth", "1/2 prompter", "2/1 truth"],
      "what the prompter sees where nothing is drawn is prompted too",
    );
    const alone = { ...clip, prompter: null };
    t.strictSame(places(simulate({ truthShare: 0 }, 1, alone)), ["1/0 truth", "1/1 truth", "2/1 truth"]);
    t.strictSame(
      places(simulate({}, 1, { ...clip, drawnClasses: [2] })),
      ["2/1 truth"],
      "an unknown organ is not absent",
    );
    const shares = Array.from({ length: 300 }, (_, seed) => simulate({}, seed)[0]?.source === "truth");
    const share = shares.filter(Boolean).length / shares.length;
    t.ok(share > 0.4 && share < 0.6, `${share} from the truth`);
  },
);

t.test("masks, points and unprompted slices follow the policy", async (t) => {
  t.ok(simulate({ maskShare: 1 }).every(({ maskLogits }) => maskLogits?.length === 256));
  t.ok(simulate({ maskShare: 0 }).every(({ maskLogits }) => maskLogits === null));
  const blind = simulate({ truthShare: 1, maskShare: 1 })[1];
  t.ok(
    (blind?.maskLogits?.[4 * 16 + 4] ?? 0) < 0,
    "the prompter's mask is given even where it misses the object",
  );
  const rough = simulate({ truthShare: 1, maskShare: 1 }, 1, { ...clip, prompter: null })[1];
  t.ok(rough?.maskLogits?.includes(10), "without a prompter the mask is a rough truth");
  const pointed = simulate({ truthShare: 1, pointShare: 1, negativeCount: 2 });
  t.ok(pointed.every(({ box, points }) => box === null && points.length === 3));
  const sparse = Array.from({ length: 20 }, (_, seed) =>
    places(simulate({ truthShare: 1, promptedShare: 0 }, seed)),
  );
  t.ok(
    sparse.every((one) => one.length === 2),
    "of every object one slice is prompted",
  );
  t.ok(new Set(sparse.map(([first]) => first)).size === 2, "not always the same one");
});

t.test("the same seed gives the same prompts, another seed others", async (t) => {
  t.strictSame(simulate({}, 9), simulate({}, 9));
  t.notSame(simulate({}, 9), simulate({}, 10));
});
