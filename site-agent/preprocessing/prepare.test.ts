import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import type { CohortFingerprint } from "@consilium/shared/model/cohort-fingerprint.ts";
import { planPreprocessing } from "@consilium/shared/model/plan-preprocessing.ts";
import { PreprocessingPlan } from "@consilium/shared/model/preprocessing-plan.ts";
import t from "tap";
import { Value } from "typebox/value";
import { type Affine, AXES, type Vec3 } from "../data/affine.ts";
import { anatomicalAxes } from "../data/anatomical-axes.ts";
import { type Grid, makeGrid, voxelCount } from "../data/grid.ts";
import { readNiftiImage, readNiftiLabels } from "../data/nifti-file.ts";
import { type Labelmap, makeLabelmap, makeVolume } from "../data/volume.ts";
import { fromCanonical, toCanonical } from "./orientation.ts";
import { type PreparedCase, prepare } from "./prepare.ts";
import { restoreLabels } from "./restore.ts";

const PLAN: PreprocessingPlan = {
  orientation: "RAS",
  sliceAxis: "S",
  inPlaneSpacingMm: null,
  throughPlaneSpacingMm: null,
  imageOrder: 3,
  patch: { height: 32, width: 32 },
  largerThanPatch: "crop",
  padding: "minimum",
  contextSlices: 0,
  normalisation: { kind: "zscore" },
};

/** One of the 48 orientations: voxel axis `order[w]` runs along world axis w, backwards where a bit of `signs` is set. */
function turnedGrid(order: Vec3, signs: number, options: { sizes: Vec3; spacingMm: Vec3 }): Grid {
  const columns = AXES.map((voxelAxis): Vec3 => {
    const world = order.indexOf(voxelAxis);
    const step = options.spacingMm[voxelAxis] * (((signs >> world) & 1) === 1 ? -1 : 1);
    return [world === 0 ? step : 0, world === 1 ? step : 0, world === 2 ? step : 0];
  });
  const [i, j, k] = columns;
  const affine: Affine = {
    columns: [expectDefined(i, "i"), expectDefined(j, "j"), expectDefined(k, "k")],
    origin: [3, -4, 5],
  };
  return makeGrid(options.sizes, affine);
}

function allOrientations(): [Vec3, number][] {
  const orders: Vec3[] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
  ];
  return orders.flatMap((order) => Array.from({ length: 8 }, (_, signs): [Vec3, number] => [order, signs]));
}

/** Class probabilities that are certain of the prepared labels. */
function certain(prepared: PreparedCase, labels: readonly number[]): Float32Array[] {
  return prepared.slices.map((slice) => {
    const probabilities = new Float32Array(slice.labels.length * labels.length);
    slice.labels.forEach((label, pixel) => {
      probabilities[pixel * labels.length + labels.indexOf(label)] = 1;
    });
    return probabilities;
  });
}

/** Three solid ellipsoids. */
function ellipsoids(grid: Grid): Labelmap {
  const [ni, nj, nk] = grid.shape;
  const labels = new Uint8Array(voxelCount(grid));
  const centres: Vec3[] = [
    [0.35, 0.4, 0.5],
    [0.65, 0.6, 0.5],
    [0.5, 0.5, 0.3],
  ];
  for (let index = 0; index < labels.length; index += 1) {
    const place: Vec3 = [index % ni, Math.floor(index / ni) % nj, Math.floor(index / (ni * nj))];
    centres.forEach((centre, organ) => {
      const radius = AXES.reduce<number>(
        (sum, axis) => sum + ((place[axis] / grid.shape[axis] - centre[axis]) / (0.25 - 0.04 * organ)) ** 2,
        0,
      );
      if (radius < 1) labels[index] = organ + 1;
    });
  }
  t.ok(nk > 0);
  return makeLabelmap(grid, labels);
}

function dice(a: Uint8Array, b: Uint8Array, label: number): number {
  let [both, total] = [0, 0];
  a.forEach((value, index) => {
    if (value === label && b[index] === label) both += 1;
    total += (value === label ? 1 : 0) + (b[index] === label ? 1 : 0);
  });
  return (2 * both) / total;
}

t.test("canonical order is undone exactly for every orientation", async (t) => {
  const prng = new Prng(4);
  for (const [order, signs] of allOrientations()) {
    const grid = turnedGrid(order, signs, { sizes: [3, 4, 5], spacingMm: [1, 2, 3] });
    const voxels = Float32Array.from({ length: 60 }, () => prng.next());
    const axes = anatomicalAxes(grid.affine);
    const canonical = toCanonical(voxels, grid.shape, axes);
    t.strictSame(fromCanonical(canonical, grid.shape, axes), voxels);
  }
});

t.test(
  "prepared labels find back to the input's grid unchanged, in all 48 orientations and slice axes",
  async (t) => {
    const prng = new Prng(6);
    for (const [order, signs] of allOrientations()) {
      for (const sliceAxis of ["R", "A", "S"] as const) {
        const grid = turnedGrid(order, signs, { sizes: [7, 9, 6], spacingMm: [1, 0.7, 4] });
        const labelmap = makeLabelmap(
          grid,
          Uint8Array.from({ length: voxelCount(grid) }, () => prng.int(0, 3) * 5),
        );
        const volume = makeVolume(grid, Float32Array.from(labelmap.voxels));
        const plan: PreprocessingPlan = {
          ...PLAN,
          sliceAxis,
          largerThanPatch: prng.pick(["crop", "window"] as const),
        };
        const prepared = prepare(volume, { labelmap, contoured: [5] }, plan);
        const back = restoreLabels(certain(prepared, [0, 5, 10, 15]), prepared.geometry, [0, 5, 10, 15]);
        if (!Buffer.from(back.voxels).equals(Buffer.from(labelmap.voxels)))
          t.fail(`${order} ${signs} ${sliceAxis}`);
        if (back.grid !== grid) t.fail("the result lies on the input's grid");
      }
    }
    t.pass("48 orientations, 3 axes");
  },
);

t.test("with resampling the labels come back nearly whole", async (t) => {
  for (const sliceAxis of ["R", "A", "S"] as const) {
    const grid = turnedGrid([1, 2, 0], 5, { sizes: [40, 50, 36], spacingMm: [1.1, 0.9, 1.3] });
    const labelmap = ellipsoids(grid);
    const volume = makeVolume(grid, Float32Array.from(labelmap.voxels));
    const plan: PreprocessingPlan = {
      ...PLAN,
      sliceAxis,
      inPlaneSpacingMm: 0.8,
      throughPlaneSpacingMm: 1,
      patch: { height: 80, width: 80 },
    };
    const prepared = prepare(volume, { labelmap, contoured: [1, 2, 3] }, plan);
    const back = restoreLabels(certain(prepared, [0, 1, 2, 3]), prepared.geometry, [0, 1, 2, 3]);
    for (const label of [1, 2, 3]) {
      const score = dice(back.voxels, labelmap.voxels, label);
      t.ok(score > 0.97, `${sliceAxis} label ${label}: ${score}`);
    }
  }
});

t.test("a slice shows the front at the top and the patient's right on the left", async (t) => {
  const grid = turnedGrid([0, 1, 2], 0, { sizes: [16, 20, 2], spacingMm: [1, 1, 1] });
  const voxels = new Float32Array(voxelCount(grid));
  voxels[15 + 19 * 16] = 100; // The voxel furthest to the patient's right and front of the lowest slice.
  const plan: PreprocessingPlan = { ...PLAN, patch: { height: 20, width: 16 } };
  const { slices } = prepare(makeVolume(grid, voxels), null, plan);
  const [lowest, upper] = slices;
  t.equal(lowest?.image.indexOf(Math.max(...(lowest?.image ?? []))), 0);
  t.ok(upper?.image.every((value) => value === upper.image[0]));
  t.match(lowest, { height: 20, width: 16, channels: 1, contoured: [] });
});

t.test(
  "slices are padded with the volume's lowest value or with zero, and cropped about their centre",
  async (t) => {
    const grid = turnedGrid([0, 1, 2], 0, { sizes: [20, 40, 1], spacingMm: [1, 1, 1] });
    const voxels = Float32Array.from({ length: 800 }, (_, index) => index);
    const minimum = prepare(makeVolume(grid, voxels), null, PLAN).slices[0];
    const zero = prepare(makeVolume(grid, voxels), null, { ...PLAN, padding: "zero" }).slices[0];
    t.equal(minimum?.image[0], Math.min(...(minimum?.image ?? [])));
    t.equal(zero?.image[0], 0);
    t.equal(minimum?.image.length, 32 * 32);
    const window = prepare(makeVolume(grid, voxels), null, { ...PLAN, largerThanPatch: "window" }).slices[0];
    t.match(window, { height: 40, width: 32 });
    const rowOf = (image: Float32Array | undefined, row: number): number[] => [
      ...(image ?? []).slice(row * 32, row * 32 + 32),
    ];
    t.strictSame(rowOf(minimum?.image, 0), rowOf(window?.image, 4));
  },
);

t.test("context slices are the neighbours as channels, repeated at both ends", async (t) => {
  const grid = turnedGrid([0, 1, 2], 0, { sizes: [32, 32, 3], spacingMm: [1, 1, 1] });
  const prng = new Prng(8);
  const volume = makeVolume(
    grid,
    Float32Array.from({ length: 3072 }, () => prng.normal()),
  );
  const plain = prepare(volume, null, PLAN).slices.map(({ image }) => image);
  const context = prepare(volume, null, { ...PLAN, contextSlices: 1 }).slices;
  const channel = (slice: number, number: number): Float32Array =>
    (context[slice]?.image ?? new Float32Array(0)).filter((_, index) => index % 3 === number);
  t.equal(context[0]?.channels, 3);
  t.strictSame([channel(0, 0), channel(0, 1), channel(0, 2)], [plain[0], plain[0], plain[1]]);
  t.strictSame([channel(1, 0), channel(1, 1), channel(1, 2)], plain);
  t.strictSame([channel(2, 0), channel(2, 1), channel(2, 2)], [plain[1], plain[2], plain[2]]);
});

const SHARED_DATA = fileURLToPath(new URL("../../../shared/data", import.meta.url));
const REAL_CASES: readonly [string, string, readonly number[]][] = [
  ["msd-hippocampus-mr/imagesTr/hippocampus_003", "msd-hippocampus-mr/labelsTr/hippocampus_003", [0, 1, 2]],
  [
    "openkbp-headneck-ct/cases/B_pt_31/ct",
    "openkbp-headneck-ct/cases/B_pt_31/label",
    [0, 1, 2, 3, 4, 5, 6, 7],
  ],
  ["sunnybrook-cardiac-mr/cases/scd_04_cat2_image", "sunnybrook-cardiac-mr/cases/scd_04_cat2_label", [0, 1]],
];

t.test(
  "labels of real cases come back unchanged at their own spacing",
  { skip: !existsSync(SHARED_DATA) && "no ../shared/data" },
  async (t) => {
    for (const [image, label, labels] of REAL_CASES) {
      const { volume } = await readNiftiImage(`${SHARED_DATA}/${image}.nii.gz`);
      const { labelmap } = await readNiftiLabels(`${SHARED_DATA}/${label}.nii.gz`);
      const plan: PreprocessingPlan = { ...PLAN, largerThanPatch: "window" };
      const prepared = prepare(volume, { labelmap, contoured: [] }, plan);
      const back = restoreLabels(certain(prepared, labels), prepared.geometry, labels);
      t.ok(Buffer.from(back.voxels).equals(Buffer.from(labelmap.voxels)), image);
      t.ok(prepared.slices.every((slice) => slice.image.every(Number.isFinite)));
    }
  },
);

const FINGERPRINT: CohortFingerprint = {
  cases: 10,
  modality: "MR",
  spacingMmMedian: [1, 1, 1],
  shapeMedian: [35, 50, 35],
  extentMmMedian: [35, 50, 35],
  extentMmPercentile99: [43, 59, 47],
  foreground: { mean: 100, std: 20, percentile00_5: 40, percentile99_5: 170 },
  labels: [{ label: 1, cases: 10 }],
};
const OPTIONS = { poolings: 4, patchEdgeMax: 256, contextSlices: 0 } as const;

t.test("a plan for equal isotropic sites keeps their spacing and holds every volume", async (t) => {
  const plan = planPreprocessing([FINGERPRINT, { ...FINGERPRINT, cases: 3 }], OPTIONS);
  t.ok(Value.Check(PreprocessingPlan, plan));
  t.match(plan, {
    sliceAxis: "S",
    inPlaneSpacingMm: null,
    patch: { height: 64, width: 48 },
    largerThanPatch: "crop",
  });
  t.strictSame(plan.normalisation, { kind: "zscore" });
});

t.test("a plan for unlike CT sites finds a common spacing, window and patch", async (t) => {
  const ct = (cases: number, pixelMm: number, mean: number): CohortFingerprint => ({
    ...FINGERPRINT,
    cases,
    modality: "CT",
    spacingMmMedian: [pixelMm, pixelMm, 3],
    extentMmPercentile99: [pixelMm * 128, pixelMm * 128, 300],
    foreground: { mean, std: 10, percentile00_5: mean - 50, percentile99_5: mean + 50 },
  });
  const sites = [ct(10, 0.9, 20), ct(30, 0.7, 40)];
  const plan = planPreprocessing(sites, { ...OPTIONS, patchEdgeMax: 128 });
  t.ok(Value.Check(PreprocessingPlan, plan));
  t.match(plan, {
    sliceAxis: "S",
    inPlaneSpacingMm: 0.7,
    patch: { height: 128, width: 128 },
    largerThanPatch: "window",
  });
  // Weighted by cases: mean 35; variance 100 + (0.25 * 15^2 + 0.75 * 5^2) = 175.
  t.strictSame(plan.normalisation, { kind: "ct", low: -15, high: 85, mean: 35, std: Math.sqrt(175) });
  const mixed = planPreprocessing([...sites, FINGERPRINT], OPTIONS);
  t.strictSame(mixed.normalisation, { kind: "zscore" }, "one MR site makes the study MR");
});

t.test("a plan cuts across the coarsest axis", async (t) => {
  const thick = (spacingMmMedian: [number, number, number]): string =>
    planPreprocessing([{ ...FINGERPRINT, spacingMmMedian }], OPTIONS).sliceAxis;
  t.equal(thick([1, 1, 8]), "S");
  t.equal(thick([5, 1, 1]), "R");
  t.equal(thick([1, 3, 1]), "A");
  t.equal(thick([1, 1.2, 1]), "S");
});
