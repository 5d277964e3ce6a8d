import { Prng } from "@consilium/shared/base/prng.ts";
import t from "tap";
import { Type } from "typebox";
import { Value } from "typebox/value";
import type { Vec3 } from "../data/affine.ts";
import { readScalarsGolden, SCALARS_GOLDEN_MISSING } from "../preprocessing/scalars-golden.ts";
import { squaredDistances } from "./distance-transform.ts";
import { overlap, overlapCounts } from "./overlap.ts";
import { surfaceDistances } from "./surface-distance.ts";

const Maybe = Type.Union([Type.Number(), Type.Null()]);
const ExpectedMetrics = Type.Object({
  metrics: Type.Record(
    Type.String(),
    Type.Object({
      spacing: Type.Array(Type.Number()),
      dice: Maybe,
      iou: Maybe,
      hd: Maybe,
      hd95_pooled: Maybe,
      hd95_max_of_directed: Maybe,
      assd_pooled: Maybe,
      assd_mean_of_directed: Maybe,
      nsd: Type.Union([Type.Record(Type.String(), Type.Number()), Type.Null()]),
    }),
  ),
});

function isClose(value: number | null | undefined, expected: number | null | undefined): boolean {
  if (value === null || value === undefined || expected === null || expected === undefined)
    return value === expected;
  return Math.abs(value - expected) <= 1e-9 * Math.max(1, Math.abs(expected));
}

t.test(
  "overlap and surface distances agree with the brute-force reference",
  { skip: SCALARS_GOLDEN_MISSING },
  async (t) => {
    const golden = readScalarsGolden();
    const { metrics } = Value.Parse(ExpectedMetrics, golden.expected);
    t.equal(Object.keys(metrics).length, 10);
    for (const [name, expected] of Object.entries(metrics)) {
      const predicted = golden.bytes(`metrics/${name}/pred`);
      const truth = golden.bytes(`metrics/${name}/ref`);
      const counts = overlapCounts(predicted.values, truth.values)[1] ?? { predicted: 0, truth: 0, both: 0 };
      const shares = overlap(counts);
      t.ok(isClose(shares?.dice ?? null, expected.dice), `${name} dice`);
      t.ok(isClose(shares?.iou ?? null, expected.iou), `${name} iou`);
      const [i = 1, j = 1, k = 1] = [...expected.spacing].reverse();
      const distances = surfaceDistances({
        predicted: predicted.values,
        truth: truth.values,
        shape: truth.shape,
        spacingMm: [i, j, k],
      });
      t.ok(isClose(distances?.hdMm ?? null, expected.hd), `${name} hd`);
      t.ok(isClose(distances?.hd95PooledMm ?? null, expected.hd95_pooled), `${name} hd95 pooled`);
      t.ok(
        isClose(distances?.hd95MaxOfDirectedMm ?? null, expected.hd95_max_of_directed),
        `${name} hd95 directed`,
      );
      t.ok(isClose(distances?.assdPooledMm ?? null, expected.assd_pooled), `${name} assd pooled`);
      t.ok(
        isClose(distances?.assdMeanOfDirectedMm ?? null, expected.assd_mean_of_directed),
        `${name} assd directed`,
      );
      for (const [tolerance, share] of Object.entries(expected.nsd ?? {})) {
        t.ok(isClose(distances?.nsd(Number(tolerance)), share), `${name} nsd ${tolerance}`);
      }
      t.equal(distances === null, expected.nsd === null, `${name} is defined or not`);
    }
  },
);

t.test("a comparison with the reference can fail", async (t) => {
  t.notOk(isClose(1.0001, 1));
  t.notOk(isClose(null, 1));
  t.ok(isClose(null, null));
});

t.test("the distance transform equals the search over all seeds", async (t) => {
  const prng = Prng.labelled(3, "distance transform");
  for (let round = 0; round < 200; round += 1) {
    const shape: Vec3 = [prng.int(1, 7), prng.int(1, 6), prng.int(1, 5)];
    const spacingMm: Vec3 = [prng.uniform(0.3, 5), prng.uniform(0.3, 5), prng.uniform(0.3, 5)];
    const seeds = new Uint8Array(shape[0] * shape[1] * shape[2]).map(() => (prng.chance(0.1) ? 1 : 0));
    seeds[prng.int(0, seeds.length - 1)] = 1;
    const place = (index: number): Vec3 => [
      (index % shape[0]) * spacingMm[0],
      (Math.floor(index / shape[0]) % shape[1]) * spacingMm[1],
      Math.floor(index / (shape[0] * shape[1])) * spacingMm[2],
    ];
    const squared = squaredDistances(seeds, shape, spacingMm);
    const wrong = squared.findIndex((value, index) => {
      const [x, y, z] = place(index);
      const nearest = seeds.reduce((least, seed, other) => {
        if (seed === 0) return least;
        const [a, b, c] = place(other);
        return Math.min(least, (x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2);
      }, Number.POSITIVE_INFINITY);
      return Math.abs(value - nearest) > 1e-9 * (1 + nearest);
    });
    if (wrong >= 0) t.fail(`round ${round}, voxel ${wrong}`);
  }
});

t.test("empty masks give no distance, and no overlap is 0 rather than nothing", async (t) => {
  const empty = new Uint8Array(8);
  const one = Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0);
  const pair = (predicted: Uint8Array, truth: Uint8Array): unknown =>
    surfaceDistances({ predicted, truth, shape: [2, 2, 2], spacingMm: [1, 1, 1] });
  t.equal(pair(empty, empty), null);
  t.equal(pair(one, empty), null);
  t.equal(pair(empty, one), null);
  t.equal(overlap({ predicted: 0, truth: 0, both: 0 }), null);
  t.strictSame(overlap({ predicted: 0, truth: 3, both: 0 }), { dice: 0, iou: 0 });
});
