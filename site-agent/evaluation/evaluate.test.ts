import { inflateSync } from "node:zlib";
import { Prng } from "@consilium/shared/base/prng.ts";
import { EvaluationReport, smallCount } from "@consilium/shared/evaluation/evaluation-report.ts";
import type { PreprocessingPlan } from "@consilium/shared/model/preprocessing-plan.ts";
import t from "tap";
import { Value } from "typebox/value";
import { type Affine, diagonalAffine, type Vec3 } from "../data/affine.ts";
import { makeGrid, voxelCount } from "../data/grid.ts";
import { type Labelmap, makeLabelmap, makeVolume, type Volume } from "../data/volume.ts";
import { type AtlasCase, buildAtlas, predictWithAtlas } from "./atlas.ts";
import { chooseAtlas } from "./choose-atlas.ts";
import { type CaseLabelScore, evaluateCase } from "./evaluate-case.ts";
import { evaluationReport } from "./evaluate-cohort.ts";
import { evaluateSlices, spreadSlices } from "./evaluate-slices.ts";
import { overlap, overlapCounts } from "./overlap.ts";
import { renderSlice, sideBySide } from "./picture.ts";
import { encodePng } from "./png.ts";
import { type BatchShape, predictVolume } from "./predict-volume.ts";
import { gaussianWeights, patchStarts } from "./sliding-window.ts";

/** A volume whose bright voxels are label 1 and very bright ones label 2, in a turned orientation. */
function brightCase(shape: Vec3, seed: number): { volume: Volume; labelmap: Labelmap } {
  const affine: Affine = {
    columns: [
      [0, 1.2, 0],
      [-0.9, 0, 0],
      [0, 0, -2],
    ],
    origin: [5, 6, 7],
  };
  const grid = makeGrid(shape, affine);
  const prng = new Prng(seed);
  const labels = Uint8Array.from({ length: voxelCount(grid) }, () => prng.int(0, 2));
  return {
    volume: makeVolume(
      grid,
      Float32Array.from(labels, (label) => label * 100 + prng.uniform(0, 10)),
    ),
    labelmap: makeLabelmap(grid, labels),
  };
}

const PLAN: PreprocessingPlan = {
  orientation: "RAS",
  sliceAxis: "S",
  inPlaneSpacingMm: null,
  throughPlaneSpacingMm: null,
  imageOrder: 1,
  patch: { height: 16, width: 16 },
  largerThanPatch: "window",
  padding: "zero",
  contextSlices: 0,
  normalisation: { kind: "ct", low: 0, high: 1000, mean: 0, std: 100 },
};

/** Segments by intensity: class = rounded normalised value. */
function byThreshold(
  calls: BatchShape[],
): (images: Float32Array, shape: BatchShape) => Promise<Float32Array> {
  return async (images, shape) => {
    calls.push(shape);
    const probabilities = new Float32Array((images.length / shape.channels) * 3);
    for (let pixel = 0; pixel * shape.channels < images.length; pixel += 1) {
      const middle = images[pixel * shape.channels + Math.floor(shape.channels / 2)] ?? 0;
      probabilities[pixel * 3 + Math.min(2, Math.floor(middle))] = 1;
    }
    return probabilities;
  };
}

t.test("a volume is predicted on its own grid through windows, batches and mirror images", async (t) => {
  const { volume, labelmap } = brightCase([21, 35, 5], 1);
  const options = { labels: [0, 1, 2], batchSize: 7, segment: byThreshold([]) };
  for (const plan of [PLAN, { ...PLAN, contextSlices: 1 as const }, { ...PLAN, sliceAxis: "R" as const }]) {
    for (const mirrorAxes of [[], ["row", "column"]] as const) {
      const predicted = await predictVolume(volume, { ...options, plan, mirrorAxes });
      t.ok(Buffer.from(predicted.voxels).equals(Buffer.from(labelmap.voxels)));
      t.equal(predicted.grid, volume.grid);
    }
  }
});

t.test("batches hold what they say, the last one the rest", async (t) => {
  const { volume } = brightCase([16, 16, 5], 2);
  const calls: BatchShape[] = [];
  await predictVolume(volume, {
    plan: PLAN,
    labels: [0, 1, 2],
    batchSize: 2,
    mirrorAxes: [],
    segment: byThreshold(calls),
  });
  t.strictSame(
    calls.map(({ count }) => count),
    [2, 2, 1],
  );
  t.match(calls[0], { height: 16, width: 16, channels: 1 });
});

t.test("windows cover a slice at nnU-Net's steps and count most in their middle", async (t) => {
  t.strictSame(patchStarts(16, 16), [0]);
  t.strictSame(patchStarts(10, 16), [0]);
  t.strictSame(patchStarts(35, 16), [0, 6, 13, 19]);
  const weights = gaussianWeights(5, 7);
  t.equal(weights[2 * 7 + 3], 1);
  t.ok(weights.every((weight) => weight > 0 && weight <= 1));
  t.equal(weights[0], weights[34]);
});

function cube(grid: ReturnType<typeof makeGrid>, start: number, label: number): Labelmap {
  const [ni, nj, nk] = grid.shape;
  const labels = new Uint8Array(ni * nj * nk);
  for (let index = 0; index < labels.length; index += 1) {
    const place = [index % ni, Math.floor(index / ni) % nj, Math.floor(index / (ni * nj))];
    if (place.every((value) => value >= start && value < start + 4)) labels[index] = label;
  }
  return makeLabelmap(grid, labels);
}

t.test(
  "a case is scored on its contoured labels only, and a missed organ is not averaged into a distance",
  async (t) => {
    const grid = makeGrid([12, 12, 12], diagonalAffine([1, 1, 2]));
    const truth = cube(grid, 2, 3);
    t.match(evaluateCase(cube(grid, 2, 3), truth, [3, 5]), [
      { label: 3, dice: 1, iou: 1, hd95Mm: 0, nsd1mm: 1, nsd2mm: 1, isMissed: false },
    ]);
    t.strictSame(evaluateCase(truth, truth, [5]), [], "in neither: nothing to score");
    t.strictSame(evaluateCase(truth, truth, []), [], "not contoured: nothing to compare with");
    t.match(evaluateCase(cube(grid, 2, 4), truth, [3, 4]), [
      { label: 3, dice: 0, hd95Mm: null, nsd1mm: 0, isMissed: true },
      { label: 4, dice: 0, hd95Mm: null, nsd1mm: 0, isMissed: true },
    ]);
    const shifted = evaluateCase(cube(grid, 3, 3), truth, [3])[0];
    t.ok(Math.abs((shifted?.dice ?? 0) - (3 / 4) ** 3) < 1e-12);
    const elsewhere = makeLabelmap(makeGrid([12, 12, 12], diagonalAffine([1, 1, 1])), truth.voxels);
    t.throws(() => evaluateCase(elsewhere, truth, [3]));
  },
);

function score(label: number, dice: number, hd95Mm: number | null): CaseLabelScore {
  return { label, dice, iou: dice, hd95Mm, nsd1mm: dice, nsd2mm: dice, isMissed: hd95Mm === null };
}

t.test("a report gives means per label, then over labels, and hides small counts", async (t) => {
  const cases = [
    [score(1, 0.8, 2), score(2, 0, null)],
    [score(1, 0.6, 4)],
    ...Array.from({ length: 3 }, () => [score(1, 0.7, 3)]),
  ];
  const report = evaluationReport({ scope: "volumes", cases, labels: [1, 2, 3] });
  t.ok(Value.Check(EvaluationReport, report));
  t.match(report, {
    cases: 5,
    meanDice: 0.35,
    labels: [
      { label: 1, cases: 5, missed: 0, meanDice: 0.7, meanHd95Mm: 3 },
      { label: 2, cases: "<5", missed: "<5", meanDice: 0, meanHd95Mm: null },
      { label: 3, cases: 0, meanDice: null },
    ],
  });
  t.equal(evaluationReport({ scope: "volumes", cases: [], labels: [1] }).meanDice, null);
});

t.test("a sample of slices is pooled within its case and has no distances", async (t) => {
  const truth = Uint8Array.of(1, 1, 0, 0, 2, 0);
  const scores = evaluateSlices(
    [
      { predicted: Uint8Array.of(1, 0, 0, 0, 0, 0), truth },
      { predicted: Uint8Array.of(1, 1, 1, 0, 0, 0), truth: Uint8Array.of(1, 1, 0, 0, 0, 0) },
    ],
    [1, 2, 3],
  );
  t.match(scores, [
    { label: 1, dice: (2 * 3) / (4 + 4), hd95Mm: null, nsd1mm: null, isMissed: false },
    { label: 2, dice: 0, isMissed: true },
  ]);
  t.equal(scores.length, 2, "label 3 is in neither");
  const report = evaluationReport({ scope: "slices", cases: [scores], labels: [1] });
  t.ok(Value.Check(EvaluationReport, report));
  t.match(report.labels, [{ meanDice: 0.75, meanHd95Mm: null, meanNsd1mm: null }]);
  t.strictSame(spreadSlices(10, 2), [2, 7]);
  t.strictSame(spreadSlices(3, 8), [0, 1, 2]);
  t.strictSame(spreadSlices(3, null), [0, 1, 2]);
});

t.test("counts from one to four are never told apart", async (t) => {
  t.strictSame([0, 1, 2, 3, 4, 5, 6].map(smallCount), [0, "<5", "<5", "<5", "<5", 5, 6]);
  t.notOk(Value.Check(EvaluationReport, { scope: "volumes", cases: 3, labels: [], meanDice: null }));
});

/** Cases with an organ at one place of the body, whose fields of view differ; brighter inside the body. */
function atlasCases(count: number): AtlasCase[] {
  const prng = Prng.labelled(21, "atlas");
  return Array.from({ length: count }, () => {
    const shape: Vec3 = [prng.int(20, 26), prng.int(20, 26), 10];
    const grid = makeGrid(shape, {
      columns: [
        [-2, 0, 0],
        [0, 2, 0],
        [0, 0, 3],
      ],
      origin: [0, 0, 0],
    });
    const shift: Vec3 = [prng.int(-3, 3), prng.int(-3, 3), 0];
    const voxels = new Float32Array(voxelCount(grid));
    const labels = new Uint8Array(voxels.length);
    for (let index = 0; index < voxels.length; index += 1) {
      const i = (index % shape[0]) - shape[0] / 2 - shift[0];
      const j = (Math.floor(index / shape[0]) % shape[1]) - shape[1] / 2 - shift[1];
      if (i * i + j * j < 49) voxels[index] = 100;
      if ((i - 3) ** 2 + j * j < 6) labels[index] = 1;
    }
    return { volume: makeVolume(grid, voxels), labelmap: makeLabelmap(grid, labels), contoured: [1] };
  });
}

t.test("an atlas finds an organ where it usually lies, best by the alignment that fits", async (t) => {
  const cases = atlasCases(12);
  const [held, ...training] = cases;
  if (!held) throw new Error("no case");
  const diceWith = (alignment: "middle" | "edges" | "brightness"): number => {
    const atlas = buildAtlas(training, { labels: [1], alignment, backgroundWeight: 1 });
    const counts = overlapCounts(predictWithAtlas(held.volume, atlas).voxels, held.labelmap.voxels)[1];
    return counts ? (overlap(counts)?.dice ?? 0) : 0;
  };
  t.ok(diceWith("brightness") > 0.85, `brightness ${diceWith("brightness")}`);
  const chosen = chooseAtlas(training, [1]);
  t.equal(chosen.atlas.alignment, "brightness", "the organ moves with the body");
  t.ok(chosen.crossValidatedDice > 0.7, `${chosen.crossValidatedDice}`);
});

t.test("cases that did not contour a label do not vote it away", async (t) => {
  const cases = atlasCases(6).map(
    (one, index): AtlasCase =>
      index < 4
        ? {
            ...one,
            labelmap: makeLabelmap(one.volume.grid, new Uint8Array(one.labelmap.voxels.length)),
            contoured: [],
          }
        : one,
  );
  const atlas = buildAtlas(cases, { labels: [1], alignment: "brightness", backgroundWeight: 1 });
  t.ok(atlas.winners.includes(1));
  const voted = buildAtlas(
    cases.map((one) => ({ ...one, contoured: [1] })),
    { labels: [1], alignment: "brightness", backgroundWeight: 1 },
  );
  t.notOk(voted.winners.includes(1));
});

t.test("a slice becomes a PNG with outlines in colour", async (t) => {
  const intensities = Float32Array.from({ length: 64 }, (_, index) => index);
  const truth = new Uint8Array(64).fill(1, 18, 22).fill(1, 26, 30);
  const picture = renderSlice({
    width: 8,
    height: 8,
    intensities,
    truth,
    prediction: null,
    magnification: 2,
  });
  t.match(picture, { width: 16, height: 16 });
  const at = (x: number, y: number): number[] => [
    ...picture.pixels.subarray((y * 16 + x) * 3, (y * 16 + x) * 3 + 3),
  ];
  t.strictSame(at(4, 4), [230, 159, 0]);
  t.equal(new Set(at(0, 15)).size, 1, "outside it is grey");
  const pair = sideBySide([picture, picture], 3);
  t.match(pair, { width: 35, height: 16 });
  const png = Buffer.from(encodePng(picture));
  t.equal(png.subarray(1, 4).toString("latin1"), "PNG");
  const data = png.subarray(8 + 25 + 8, png.length - 12 - 4);
  t.equal(inflateSync(data).length, 16 * (1 + 16 * 3));
});
