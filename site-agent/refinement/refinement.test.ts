import { expectDefined } from "@consilium/shared/base/assert.ts";
import t from "tap";
import { prompterOutput } from "../prompts/prompter-output.ts";
import { keptLogits, verdictOn } from "./acceptance.ts";
import { conditioningSlices, type FrameCandidate, memoriesOf } from "./frame-selection.ts";
import { withLargestParts } from "./largest-organ-part.ts";
import { ABSENT_LOGIT, mergedSlice, refusedShare, winners } from "./merge-objects.ts";
import { averagedPasses, type ObjectResult, resultArea } from "./object-result.ts";
import { mergedClip, refineClip } from "./refine-clip.ts";
import { type DecodeRequest, type RefinementModel, refineObjects } from "./refine-objects.ts";
import { REFINEMENT_PLAN } from "./refinement-plan.ts";
import { CLIP_SLICES_MAX, Stitcher, stackWindows } from "./stitching.ts";

const frame = (slice: number, areaPx: number, iouScore = 0.9, objectLogit = 1): FrameCandidate => ({
  slice,
  areaPx,
  iouScore,
  objectLogit,
});

t.test("the largest slice and every fourth confident one condition the others", async (t) => {
  const frames = Array.from({ length: 10 }, (_, slice) => frame(slice, slice === 6 ? 90 : 50));
  t.strictSame(conditioningSlices(frames, REFINEMENT_PLAN), [0, 4, 6, 8]);
  t.strictSame(conditioningSlices(frames, { ...REFINEMENT_PLAN, conditioningEvery: 9 }), [0, 6, 9]);
  const doubtful = frames.map((one) => (one.slice < 5 ? { ...one, iouScore: 0.69 } : one));
  t.strictSame(conditioningSlices(doubtful, REFINEMENT_PLAN), [5, 6, 9], "only confident slices are counted");
  const unsure = frames.map((one) => ({ ...one, iouScore: 0.1 }));
  t.strictSame(conditioningSlices(unsure, REFINEMENT_PLAN), [6], "the largest always");
  const absent = [frame(0, 99, 0.9, 0), frame(1, 3), frame(2, 0)];
  t.strictSame(conditioningSlices(absent, REFINEMENT_PLAN), [1], "no slice without the object");
  t.strictSame(conditioningSlices([], REFINEMENT_PLAN), []);
  t.strictSame(conditioningSlices(frames.toReversed(), REFINEMENT_PLAN), [0, 4, 6, 8], "whatever the order");
});

t.test(
  "a slice looks at the nearest on both sides, never at itself, with the slot of the distance",
  async (t) => {
    const remembered = [0, 1, 2, 3, 4, 5, 6, 7, 8, 20];
    const plan = { ...REFINEMENT_PLAN, conditioningCountMax: 2, memoryCountMax: 5 };
    const chosen = memoriesOf(4, { remembered, conditioning: [0, 4, 5, 8] }, plan);
    t.strictSame(
      chosen.map(({ slice, distance, slot, isConditioning }) => [slice, distance, slot, isConditioning]),
      [
        [5, -1, 0, true],
        [0, 4, 0, true],
        [3, 1, 6, false],
        [2, 2, 5, false],
        [6, -2, 5, false],
        [1, 3, 4, false],
        [7, -3, 4, false],
      ],
    );
    t.strictSame(
      memoriesOf(0, { remembered: [20], conditioning: [] }, plan).map(({ slot }) => slot),
      [1],
      "far ones share the last",
    );
    t.strictSame(memoriesOf(3, { remembered: [3], conditioning: [3] }, plan), []);
    const single = { ...plan, memoryFrameCount: 1 };
    t.strictSame(memoriesOf(3, { remembered: [2], conditioning: [] }, single), [], "no row for other slices");
  },
);

t.test(
  "a refined mask is taken unless the object is absent or the prompter is contradicted without conviction",
  async (t) => {
    const initial = Uint8Array.of(1, 1, 0, 0);
    const claim = { refined: Uint8Array.of(0, 0, 1, 1), initial, iouScore: 0.4, objectLogit: 1 };
    t.equal(verdictOn(claim, "prompter"), "contradicts-prompter");
    t.equal(verdictOn({ ...claim, iouScore: 0.5 }, "prompter"), "accepted", "sure of itself");
    t.equal(verdictOn({ ...claim, refined: Uint8Array.of(0, 1, 1, 1) }, "prompter"), "accepted", "Dice 0.4");
    t.equal(verdictOn(claim, "model"), "accepted", "without the prompter nothing is contradicted");
    t.equal(verdictOn({ ...claim, objectLogit: 0 }, "model"), "object-absent");
    t.equal(verdictOn({ ...claim, objectLogit: Number.NaN, iouScore: 1 }, "prompter"), "object-absent");
    t.strictSame(
      [...keptLogits(Float32Array.of(0.4, 0.9, 0.6, 0.1), initial)].map(Math.sign),
      [1, 1, -1, -1],
    );
  },
);

const result = (over: Partial<ObjectResult>): ObjectResult => ({
  classIndex: 1,
  slice: 0,
  logits: new Float32Array(4),
  iouScore: 0.9,
  objectLogit: 2,
  ...over,
});

t.test("two passes are averaged where both exist", async (t) => {
  const forward = [
    result({ slice: 0, logits: Float32Array.of(2, 0, 0, 0) }),
    result({ slice: 1, iouScore: 0.2 }),
  ];
  const backward = [
    result({ slice: 2 }),
    result({ slice: 0, logits: Float32Array.of(4, 0, 0, -2), objectLogit: 0 }),
  ];
  const averaged = averagedPasses(forward, backward);
  t.strictSame(
    averaged.map(({ slice, iouScore }) => [slice, iouScore]),
    [
      [0, 0.9],
      [1, 0.2],
      [2, 0.9],
    ],
  );
  t.strictSame([...expectDefined(averaged[0], "first").logits], [3, 0, 0, -1]);
  t.equal(averaged[0]?.objectLogit, 1);
  t.equal(resultArea(result({ logits: Float32Array.of(1, -1, 0, 3) })), 2);
  t.equal(resultArea(result({ logits: Float32Array.of(1, 1, 1, 1), objectLogit: 0 })), 0);
});

/** One slice of 2 x 2 with three classes; rows are pixels. */
const output = prompterOutput(Float32Array.of(0.1, 0.8, 0.1, 0.7, 0.1, 0.2, 0.1, 0.1, 0.8, 0.4, 0.1, 0.5), {
  depth: 1,
  height: 2,
  width: 2,
  classCount: 3,
});
const merge = (results: readonly ObjectResult[], arbiter: "prompter" | "model" = "prompter") =>
  mergedSlice(results, output, { slice: 0, maskGrid: { height: 2, width: 2 }, arbiter });

t.test(
  "the highest logit above background wins, and unclaimed pixels go to sure small objects",
  async (t) => {
    t.strictSame([...output.classes], [1, 0, 2, 2]);
    const two = [
      result({ logits: Float32Array.of(3, 1, -1, -1) }),
      result({ classIndex: 2, logits: Float32Array.of(1, 2, 5, -1) }),
    ];
    t.strictSame([...merge(two).classes], [1, 2, 2, 0]);
    t.strictSame([...merge(two.toReversed()).classes], [1, 2, 2, 0]);
    t.strictSame(
      [...merge([result({})]).classes],
      [0, 0, 2, 0],
      "0 is background; class 2 was not asked, 0.8 is sure",
    );
    t.strictSame(
      [...merge([result({})], "model").classes],
      [0, 0, 0, 0],
      "without the prompter nothing is filled",
    );
    t.strictSame([...merge([]).classes], [1, 0, 2, 0], "0.5 is not sure");
    t.equal(merge([], "model").logits[4], ABSENT_LOGIT);
    t.strictSame([...winners(Float32Array.of(0, 0, 0, 1, -1, 1, 2, -1, 0), 3)], [2, 0, 1]);
    t.throws(() => merge([result({}), result({})]), /one result for each object/);
  },
);

t.test("an accepted mask may be averaged with the prompter's, where that has a word", async (t) => {
  const averages = { agreementDiceMin: 0.3, sureScoreMin: 0.5, accepted: "averages" } as const;
  const merged = (logits: Float32Array, arbiter: "prompter" | "model" = "prompter") => {
    const grid = { height: 2, width: 2 };
    const options = { slice: 0, maskGrid: grid, arbiter, acceptance: averages };
    return [...mergedSlice([result({ logits })], output, options).logits.subarray(4, 8)];
  };
  const own = [Math.log(4), -Math.log(9), -Math.log(9), -Math.log(9)]; // Of class 1: .8, .1, .1, .1.
  const expected = [2, 2, -2, 30].map((logit, pixel) => (Math.min(logit, 10) + (own[pixel] ?? 0)) / 2);
  const rounded = (values: readonly number[]): string[] => values.map((value) => value.toFixed(5));
  t.strictSame(rounded(merged(Float32Array.of(2, 2, -2, 30))), rounded(expected));
  t.strictSame(merged(Float32Array.of(2, 2, -2, 30), "model"), [2, 2, -2, 30], "else it stands for itself");
});

t.test(
  "a refused object keeps the prompter's mask, or nothing where the prompter may not speak",
  async (t) => {
    const gone = [result({ objectLogit: -1, logits: Float32Array.of(9, 9, 9, 9) })];
    t.strictSame([...merge(gone).classes], [1, 0, 2, 0]);
    t.strictSame([...merge(gone, "model").classes], [0, 0, 0, 0]);
    const wrong = [result({ classIndex: 2, iouScore: 0.3, logits: Float32Array.of(5, 5, -5, -5) })];
    t.strictSame(
      [...merge(wrong).classes],
      [1, 0, 2, 2],
      "the whole mask of the prompter, at probability 0.5 too",
    );
    t.strictSame([...merge(wrong, "model").classes], [2, 2, 0, 0]);
    t.equal(refusedShare([...merge(wrong).decisions, ...merge([result({})]).decisions]), 0.5);
    t.equal(refusedShare(merge(wrong, "model").decisions), 0);
    t.equal(refusedShare([]), null);
  },
);

const GRID = { height: 4, width: 4 };
const MODEL_SIZES = { image: { height: 16, width: 16 }, maskGrid: GRID };
type Asked = DecodeRequest<string>;

/** A model that writes down what it is asked; its memories are names: the stage and the slice. */
function scripted(answer: (request: Asked) => Partial<ObjectResult> = () => ({})) {
  const asked: Asked[] = [];
  const batches: number[] = [];
  const live = new Set<string>();
  const model: RefinementModel<string> = {
    ...MODEL_SIZES,
    objectsAtOnce: 2,
    decode: async (requests) => {
      batches.push(requests.length);
      return requests.map((request) => {
        asked.push(request);
        const memory = `${asked.length}:${request.slice}`;
        live.add(memory);
        const logits = Float32Array.from({ length: 16 }, (_, cell) => (cell === 5 ? 40 : -40));
        return { logits, iouScore: 0.9, objectLogit: 1, ...answer(request), memory };
      });
    },
    release: (memory) => void live.delete(memory),
  };
  return { model, asked, batches, live };
}

/** Class 1 in some slices of 8 x 8. */
function prompterIn(slices: readonly number[], depth: number) {
  const channels = Array.from({ length: depth }, (_, slice) =>
    Array.from({ length: 64 }, (_unused, pixel) => {
      const isIn = slices.includes(slice) && pixel % 8 < 4 && pixel < 32;
      return isIn ? [0.1, 0.9] : [0.9, 0.1];
    }),
  );
  return prompterOutput(Float32Array.from(channels.flat(2)), { depth, height: 8, width: 8, classCount: 2 });
}

t.test(
  "stage 1 sees prompts without memory, stage 2 memories on both sides, upwards and downwards",
  async (t) => {
    const { model, asked, batches, live } = scripted();
    const { stageOne, stageTwo } = await refineClip(prompterIn([1, 2, 4], 6), model, REFINEMENT_PLAN);
    t.strictSame(
      asked.map(({ slice }) => slice),
      [1, 2, 4, 1, 4, 2, 3, 3, 2, 4, 1],
      "both passes take their steps side by side",
    );
    t.strictSame(batches, [3, 2, 2, 2, 2], "and are asked together");
    t.strictSame(
      stageOne.map(({ slice }) => slice),
      [1, 2, 4],
    );
    t.strictSame(
      stageTwo.map(({ slice }) => slice),
      [1, 2, 3, 4],
      "the gap is refined too",
    );
    const memories = (at: number): string[] => asked[at]?.memories.map(({ memory }) => memory) ?? [];
    t.ok(
      [0, 1, 2].every((at) => memories(at).length === 0),
      "no memory in stage 1",
    );
    t.strictSame(memories(3), ["2:2", "3:4"], "upwards, what lies ahead is of stage 1");
    t.strictSame(memories(5), ["1:1", "3:4"], "the conditioning slice stays as stage 1 left it");
    t.strictSame(memories(7), ["1:1", "6:2", "3:4"], "behind lies what was refined");
    t.strictSame(memories(6), ["1:1", "2:2", "5:4"], "downwards the other way round");
    t.equal(asked[7]?.prompt, null, "a gap is asked nothing");
    t.equal(live.size, 0, "every memory is released");
  },
);

t.test("stage 2 asks with the box and the clamped logits of stage 1", async (t) => {
  const { model, asked } = scripted();
  await refineClip(prompterIn([0], 1), model, REFINEMENT_PLAN);
  t.strictSame(
    asked[0]?.prompt?.box,
    { x1: 0, y1: 0, x2: 8, y2: 8 },
    "the prompter's box, one pixel wider, times two",
  );
  t.equal(asked[0]?.prompt?.maskLogits?.length, 16);
  t.strictSame(
    asked[1]?.prompt?.box,
    { x1: 3, y1: 3, x2: 8, y2: 8 },
    "cell (1,1) is pixels 4 to 7, one wider",
  );
  t.strictSame(new Set(asked[1]?.prompt?.maskLogits), new Set([32, -32]));

  const boxes = scripted();
  await refineClip(prompterIn([0], 1), boxes.model, { ...REFINEMENT_PLAN, prompts: "boxes" });
  t.ok(boxes.asked.every(({ prompt }) => prompt?.maskLogits === null && prompt.box !== null));

  const empty = scripted(() => ({ logits: new Float32Array(16).fill(-1) }));
  await refineClip(prompterIn([0], 1), empty.model, REFINEMENT_PLAN);
  t.strictSame(empty.asked[1]?.prompt?.box, empty.asked[0]?.prompt?.box, "nothing found: its own box again");
});

t.test("gaps may be left, and memories are released when the model fails", async (t) => {
  const left = scripted();
  const { stageTwo } = await refineClip(prompterIn([0, 2], 3), left.model, {
    ...REFINEMENT_PLAN,
    gaps: "left",
  });
  t.strictSame(
    stageTwo.map(({ slice }) => slice),
    [0, 2],
  );
  const failing = scripted(({ memories }) => {
    if (memories.length > 0) throw new Error("out of memory");
    return {};
  });
  await t.rejects(refineClip(prompterIn([0, 1], 2), failing.model, REFINEMENT_PLAN), /out of memory/);
  t.equal(failing.live.size, 1, "only what was never handed over is left");
  t.strictSame(await refineObjects([], failing.model, GRID), []);
  const unseen = await refineObjects([{ prompts: [], plan: REFINEMENT_PLAN }], failing.model, GRID);
  t.strictSame(unseen, [{ stageOne: [], stageTwo: [] }]);
});

t.test("a clip is merged slice by slice, with and without the prompter as arbiter", async (t) => {
  const seen = prompterIn([0, 1], 3);
  const { model } = scripted(({ slice }) => (slice === 1 ? { objectLogit: -3 } : {}));
  const { stageTwo } = await refineClip(seen, model, REFINEMENT_PLAN);
  const counts = (classes: Uint8Array): number[] =>
    [0, 1, 2].map((slice) =>
      classes.subarray(slice * 64, slice * 64 + 64).reduce((sum, value) => sum + value, 0),
    );
  const withPrompter = mergedClip(stageTwo, seen, { maskGrid: GRID, arbiter: "prompter" });
  t.strictSame(counts(withPrompter.classes), [4, 16, 0], "refined, kept, never asked");
  t.equal(refusedShare(withPrompter.decisions), 0.5);
  const alone = mergedClip(stageTwo, seen, { maskGrid: GRID, arbiter: "model" });
  t.strictSame(counts(alone.classes), [4, 0, 0]);
  t.equal(alone.logits.length, 2 * 3 * 64);
  t.strictSame(
    [...alone.logits.subarray(0, 3 * 64)].every((logit) => logit === 0),
    true,
  );
});

t.test(
  "windows cover the volume, and overlapping logits are blended towards the nearer centre",
  async (t) => {
    const volume = { depth: 70, height: 3, width: 2 };
    const windows = stackWindows(volume, { depth: CLIP_SLICES_MAX, height: 512, width: 512 });
    t.strictSame(
      windows.map(({ slice, depth, height }) => [slice, depth, height]),
      [
        [0, 32, 3],
        [13, 32, 3],
        [25, 32, 3],
        [38, 32, 3],
      ],
    );
    const stitcher = new Stitcher(volume, 2);
    const held: number[] = [];
    const slices = windows.flatMap((window, index) => {
      const voxels = window.depth * 6;
      const logits = new Float32Array(2 * voxels).fill(index % 2 === 0 ? 1 : -1, voxels);
      const finished = stitcher.add(window, logits);
      held.push(finished.length);
      return finished;
    });
    slices.push(...stitcher.finish());
    t.strictSame(held, [0, 13, 12, 13], "slices leave as soon as no window can touch them");
    t.strictSame(
      slices.map(({ slice }) => slice),
      Array.from({ length: 70 }, (_, slice) => slice),
    );
    const at = (slice: number): number => expectDefined(slices[slice], "slice").logits[6] ?? 9;
    t.strictSame([at(0), at(12), at(69)], [1, 1, -1]);
    t.ok(at(20) > 0 && at(25) < 0, "each slice follows the nearer centre");
    t.strictSame([...expectDefined(slices[0], "slice").classes], [1, 1, 1, 1, 1, 1]);

    const plane = { depth: 1, height: 4, width: 6 };
    const tiles = stackWindows(plane, { depth: 1, height: 4, width: 4 });
    t.strictSame(
      tiles.map(({ column }) => column),
      [0, 2],
    );
    const tiled = new Stitcher(plane, 2);
    for (const tile of tiles) tiled.add(tile, new Float32Array(32).fill(0.5, 16));
    t.ok(
      tiled
        .finish()[0]
        ?.logits.subarray(24)
        .every((logit) => Math.abs(logit - 0.5) < 1e-6),
      "equal logits stay",
    );
  },
);

t.test("a stitcher refuses windows that are out of order, outside or missing", async (t) => {
  const volume = { depth: 3, height: 1, width: 1 };
  const window = { depth: 1, height: 1, width: 1, slice: 1, row: 0, column: 0 };
  const stitcher = new Stitcher(volume, 2);
  t.throws(() => stitcher.add(window, new Float32Array(2)), /cover every slice/);
  t.throws(
    () => new Stitcher(volume, 2).add({ ...window, slice: 3 }, new Float32Array(2)),
    /lie in the volume/,
  );
  t.throws(() => new Stitcher(volume, 2).add({ ...window, slice: 0 }, new Float32Array(3)), /one logit/);
});

t.test("of every organ the largest part remains", async (t) => {
  const classes = Uint8Array.of(1, 1, 0, 0, 1, 0, 2, 0, 0, 2, 0, 2);
  t.strictSame(
    [...withLargestParts(classes, { depth: 1, height: 1, width: 12 })],
    [1, 1, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0],
  );
  const column = Uint8Array.of(1, 0, 0, 1, 0, 0, 0, 0, 1);
  t.strictSame([...withLargestParts(column, { depth: 3, height: 1, width: 3 })], [1, 0, 0, 1, 0, 0, 0, 0, 0]);
});
