import { Prng } from "@consilium/shared/base/prng.ts";
import { CohortFingerprint } from "@consilium/shared/model/cohort-fingerprint.ts";
import t from "tap";
import { Value } from "typebox/value";
import { type Affine, AXES, diagonalAffine, type Vec3 } from "./affine.ts";
import { anatomicalAxes, inAnatomicalOrder } from "./anatomical-axes.ts";
import { splitCohort } from "./cohort.ts";
import { caseFingerprint, cohortFingerprint } from "./cohort-fingerprint.ts";
import { contouredLabels } from "./contoured-labels.ts";
import { isSameGrid, makeGrid } from "./grid.ts";
import { mapLabels, matchLabels } from "./label-mapping.ts";
import { percentile, percentiles } from "./percentile.ts";
import { caseId } from "./study-source.ts";
import { makeLabelmap, makeVolume } from "./volume.ts";

t.test("percentiles interpolate between order statistics", async (t) => {
  // numpy.percentile([1, 2, 3, 4], [0, 25, 50, 100]) -> 1, 1.75, 2.5, 4.
  t.strictSame(percentiles(Float64Array.from([3, 1, 4, 2]), [0, 0.25, 0.5, 1]), [1, 1.75, 2.5, 4]);
  t.equal(percentile(Float32Array.from([7]), 0.3), 7);
  const prng = new Prng(5);
  for (let round = 0; round < 300; round += 1) {
    const length = prng.int(1, 60);
    const values = Float64Array.from({ length }, () => prng.int(0, prng.pick([1, 5, 1000])));
    const sorted = values.slice().sort();
    const share = prng.next();
    const position = share * (length - 1);
    const [low = 0, high = low] = sorted.slice(Math.floor(position));
    const expected = low + (position - Math.floor(position)) * (high - low);
    if (Math.abs(percentile(values, share) - expected) > 1e-12) t.fail(`round ${round}`);
  }
});

t.test("the last fifth of the list validates, or exactly the named cases", async (t) => {
  const cases = Array.from({ length: 12 }, (_, index) => caseId(index + 1));
  const fifth = splitCohort(cases, { kind: "lastFifth" });
  t.strictSame(fifth.validation, ["case-011", "case-012"]);
  t.equal(fifth.training.length, 10);
  t.strictSame(splitCohort(cases.slice(0, 4), { kind: "lastFifth" }).validation, []);
  const named = splitCohort(cases, { kind: "explicit", validation: ["case-003"] });
  t.strictSame(named.validation, ["case-003"]);
  t.notOk(named.training.includes("case-003"));
  t.throws(() => splitCohort(cases, { kind: "explicit", validation: ["case-999"] }));
});

t.test("a label absent from a case is or is not contoured, as the study decides", async (t) => {
  const evidence = { studyLabels: [1, 2, 3], inCase: new Set([1, 9]), atSite: new Set([1, 3, 9]) };
  t.strictSame(contouredLabels(evidence, "per-site"), [1, 3]);
  t.strictSame(contouredLabels(evidence, "per-case"), [1]);
});

t.test("a site's labels find the study's numbers by name", async (t) => {
  const study = [
    { id: 1, name: "liver" },
    { id: 2, name: "left_kidney" },
    { id: 3, name: "aorta" },
  ];
  const mapping = matchLabels(
    new Map([
      [5, "Liver"],
      [3, "Left Kidney"],
      [52, "spleen"],
    ]),
    study,
  );
  t.strictSame(mapping.missing, [3]);
  const grid = makeGrid([4, 1, 1], diagonalAffine([1, 1, 1]));
  t.strictSame(
    [...mapLabels(makeLabelmap(grid, Uint8Array.from([0, 5, 3, 52])), mapping).voxels],
    [0, 1, 2, 0],
  );
  const numbered = matchLabels(null, study);
  t.strictSame(
    [...mapLabels(makeLabelmap(grid, Uint8Array.from([0, 1, 3, 9])), numbered).voxels],
    [0, 1, 3, 0],
  );
});

/** A grid of which voxel axis `order[w]` runs along world axis w. */
function turned(order: Vec3, isReversed: readonly boolean[], angle = 0): Affine {
  const unit = (world: number): Vec3 => {
    const voxelAxisSign = isReversed[world] ? -1 : 1;
    const [c, s] = [Math.cos(angle) * voxelAxisSign, Math.sin(angle) * voxelAxisSign];
    return world === 0 ? [c, s, 0] : world === 1 ? [-s, c, 0] : [0, 0, voxelAxisSign];
  };
  const columnOf = (axis: number): Vec3 => unit(order.indexOf(axis));
  return { columns: [columnOf(0), columnOf(1), columnOf(2)], origin: [1, 2, 3] };
}

t.test("all 48 orientations are recognised, also when slightly oblique", async (t) => {
  const orders: Vec3[] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
  ];
  for (const order of orders) {
    for (let signs = 0; signs < 8; signs += 1) {
      const isReversed = AXES.map((axis) => ((signs >> axis) & 1) === 1);
      for (const angle of [0, 0.3]) {
        const axes = anatomicalAxes(turned(order, isReversed, angle));
        t.strictSame([[...axes.voxelAxes], [...axes.isReversed]], [[...order], isReversed]);
        t.strictSame(
          [...inAnatomicalOrder([10, 20, 30], axes)],
          order.map((axis) => (axis + 1) * 10),
        );
      }
    }
  }
});

t.test("grids agree within a tenth of a voxel and no further", async (t) => {
  const grid = (originX: number, step = 2): ReturnType<typeof makeGrid> =>
    makeGrid([10, 10, 10], diagonalAffine([step, 2, 2], [originX, 0, 0]));
  t.ok(isSameGrid(grid(0), grid(0.19)));
  t.notOk(isSameGrid(grid(0), grid(0.21)));
  t.notOk(isSameGrid(grid(0), grid(0, 2.05)), "a small change of spacing adds up over the volume");
  t.notOk(isSameGrid(grid(0), makeGrid([10, 10, 9], diagonalAffine([2, 2, 2]))));
});

t.test("a fingerprint tells sizes, intensities and contours of a cohort", async (t) => {
  const cases = [1, 2, 3].map((scale) => {
    const grid = makeGrid([2, 3, 4], turned([2, 0, 1], [true, false, false]));
    const voxels = Float32Array.from({ length: 24 }, (_, index) => index * scale - (scale > 1 ? 1000 : 0));
    const labels = Uint8Array.from({ length: 24 }, (_, index) => (index < 20 ? 0 : scale));
    return caseFingerprint(makeVolume(grid, voxels), makeLabelmap(grid, labels));
  });
  const fingerprint = cohortFingerprint(cases);
  t.ok(Value.Check(CohortFingerprint, fingerprint));
  t.strictSame(fingerprint.shapeMedian, [4, 2, 3]);
  t.strictSame(
    fingerprint.labels,
    [1, 2, 3].map((label) => ({ label, cases: 1 })),
  );
  t.equal(fingerprint.modality, "mixed", "two of three reach far below zero");
  t.equal(cohortFingerprint(cases.slice(1)).modality, "CT");
  t.equal(cohortFingerprint(cases.slice(0, 1)).modality, "MR");
  t.equal(cohortFingerprint(cases, "MR").modality, "MR", "what the data set states wins");
  // Foreground: 20..23, 40..46 step 2 minus 1000, 60..69 step 3 minus 1000.
  const values = [20, 21, 22, 23, -960, -958, -956, -954, -940, -937, -934, -931];
  const mean = values.reduce((sum, value) => sum + value, 0) / 12;
  t.ok(Math.abs((fingerprint.foreground?.mean ?? 0) - mean) < 1e-9);
  t.equal(
    cohortFingerprint(cases.map((one) => ({ ...one, foregroundSample: new Float32Array(0) }))).foreground,
    null,
  );
});
