import { Prng } from "@consilium/shared/base/prng.ts";
import t from "tap";
import type { Vec3 } from "../data/affine.ts";
import { percentiles } from "../data/percentile.ts";
import { normalise, zscore } from "./intensity.ts";
import { type PixelConvention, resample, type SplineOrder } from "./resample.ts";
import { resampleLabels } from "./resample-labels.ts";
import { readScalarsGolden, SCALARS_GOLDEN_MISSING } from "./scalars-golden.ts";

function largestGap(a: Float32Array, b: Float32Array): number {
  return a.reduce((gap, value, index) => Math.max(gap, Math.abs(value - (b[index] ?? Number.NaN))), 0);
}

function differences(a: Uint8Array, b: Uint8Array): number {
  return a.reduce((count, value, index) => count + (value === b[index] ? 0 : 1), 0);
}

t.test("resampling agrees with scipy and scikit-image", { skip: SCALARS_GOLDEN_MISSING }, async (t) => {
  const golden = readScalarsGolden();
  const { values, shape: from } = golden.floats("resample/volume");
  const kinds: [string, SplineOrder, PixelConvention][] = [
    ["half_order1", 1, "halfPixel"],
    ["align_order1", 1, "align"],
    ["half_order3", 3, "halfPixel"],
    ["align_order3", 3, "align"],
  ];
  for (const size of ["up", "down", "mixed"]) {
    for (const [name, order, convention] of kinds) {
      const expected = golden.floats(`resample/${size}/${name}`);
      const mine = resample(values, { from, to: expected.shape, orders: [order, order, order], convention });
      const gap = largestGap(mine, expected.values);
      t.ok(gap <= 1e-5, `${size} ${name}: ${gap}`);
    }
  }
});

t.test(
  "label maps agree with nearest and with nnU-Net's way",
  { skip: SCALARS_GOLDEN_MISSING },
  async (t) => {
    const golden = readScalarsGolden();
    const { values, shape: from } = golden.bytes("resample/labels");
    for (const size of ["up", "down", "mixed"]) {
      for (const [name, order] of [
        ["labels_order0", 0],
        ["labels_onehot", 1],
      ] as const) {
        const expected = golden.bytes(`resample/${size}/${name}`);
        const mine = resampleLabels(values, { from, to: expected.shape, orders: [order, order, order] });
        t.equal(differences(mine, expected.values), 0, `${size} ${name}`);
      }
    }
  },
);

t.test("a comparison with the goldens can fail", { skip: SCALARS_GOLDEN_MISSING }, async (t) => {
  const golden = readScalarsGolden();
  const { values, shape: from } = golden.floats("resample/volume");
  const expected = golden.floats("resample/up/half_order3");
  const linear = resample(values, { from, to: expected.shape, orders: [1, 1, 1] });
  t.ok(largestGap(linear, expected.values) > 1e-2);
});

t.test("intensities agree with nnU-Net's normalisations", { skip: SCALARS_GOLDEN_MISSING }, async (t) => {
  const golden = readScalarsGolden();
  const { values } = golden.floats("ct/volume");
  const foreground = golden.bytes("ct/foreground").values;
  const inside = Float64Array.from(values.filter((_, index) => (foreground[index] ?? 0) > 0));
  const mean = inside.reduce((sum, value) => sum + value, 0) / inside.length;
  const std = Math.sqrt(inside.reduce((sum, value) => sum + (value - mean) ** 2, 0) / inside.length);
  const [low = 0, high = 0] = percentiles(inside, [0.005, 0.995]);
  const { ct } = golden.expected as { ct: Record<string, number> }; // The file's own description says so.
  for (const [name, value] of Object.entries({ mean, std, percentile_00_5: low, percentile_99_5: high })) {
    t.ok(Math.abs(value - (ct[name] ?? Number.NaN)) <= 1e-9 * Math.abs(value), name);
  }
  const normalised = normalise(values, { kind: "ct", low, high, mean, std });
  t.ok(largestGap(normalised, golden.floats("ct/normalised").values) <= 2e-6);
  const plain = zscore(values, { low: Number.NEGATIVE_INFINITY, high: Number.POSITIVE_INFINITY });
  t.ok(largestGap(plain, golden.floats("ct/zscore").values) <= 2e-6);
});

t.test("a volume of one value and one with a wild maximum are normalised to finite values", async (t) => {
  t.strictSame([...normalise(new Float32Array(50).fill(7), { kind: "zscore" })], new Array(50).fill(0));
  const prng = new Prng(2);
  const values = Float32Array.from({ length: 5000 }, () => 100 + prng.normal());
  values[17] = 1.7e6;
  const normalised = normalise(values, { kind: "zscore" });
  const mean = normalised.reduce((sum, value) => sum + value, 0) / normalised.length;
  t.ok(Math.abs(mean) < 1e-5);
  t.ok(
    normalised.every((value) => Math.abs(value) < 4),
    "one voxel does not decide the scale of all others",
  );
});

t.test("sizes that stay keep their values, single voxels spread, ramps stay ramps", async (t) => {
  const prng = new Prng(9);
  const shape: Vec3 = [5, 4, 3];
  const values = Float32Array.from({ length: 60 }, () => prng.normal());
  t.equal(resample(values, { from: shape, to: shape, orders: [3, 3, 3] }), values);
  t.strictSame(
    [...resample(Float32Array.of(4), { from: [1, 1, 1], to: [2, 2, 2], orders: [3, 1, 0] })].map(Math.round),
    new Array(8).fill(4),
  );
  const ramp = Float32Array.from({ length: 12 }, (_, index) => index);
  const inner = resample(ramp, { from: [12, 1, 1], to: [24, 1, 1], orders: [1, 1, 1] }).subarray(1, 23);
  t.ok(inner.every((value, index) => Math.abs(value - (0.25 + index / 2)) < 1e-6));
});
