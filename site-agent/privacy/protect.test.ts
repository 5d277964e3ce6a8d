import type { ParameterSpec } from "@consilium/shared/model/parameter-manifest.ts";
import fc from "fast-check";
import t from "tap";
import { normL2, type ProtectedDelta, protect } from "./protect.ts";

const manifest: ParameterSpec[] = [
  { name: "a", shape: [3], dtype: "F32" },
  { name: "b", shape: [2, 2], dtype: "F32" },
];
const deltaOf = (numbers: readonly number[]): Map<string, Float32Array> =>
  new Map([
    ["a", Float32Array.from(numbers.slice(0, 3))],
    ["b", Float32Array.from(numbers.slice(3, 7))],
  ]);
const flat = (delta: Pick<ProtectedDelta, "values">): number[] =>
  manifest.flatMap(({ name }) => [...(delta.values.get(name) ?? [])]);
const clip = (bound: number) => ({ kind: "clip", normL2: bound }) as const;

const deltas = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: 7, maxLength: 7 });
const bounds = fc.oneof(
  fc.double({ min: 1e-6, max: 1e9, noNaN: true }),
  fc.double({ min: 1e-46, max: 1e-36, noNaN: true }),
);

t.test("a delta within the bound passes unchanged", async (t) => {
  const delta = protect(deltaOf([1, 2, 2, 0, 0, 0, 0]), manifest, clip(3));
  t.strictSame(flat(delta), [1, 2, 2, 0, 0, 0, 0]);
  t.strictSame(delta.normL2, { trained: 3, sent: 3 });
});

t.test("a larger one is scaled down to the bound as a whole", async (t) => {
  const delta = protect(deltaOf([3, 0, 0, 4, 0, 0, 0]), manifest, clip(1));
  t.equal(delta.normL2.trained, 5);
  t.ok(delta.normL2.sent <= 1 && delta.normL2.sent > 1 - 1e-6, `sent with norm ${delta.normL2.sent}`);
  t.ok(Math.abs((flat(delta)[0] ?? 0) - 0.6) < 1e-6);
});

t.test("protecting never enlarges, keeps the direction and is idempotent", async (_t) => {
  fc.assert(
    fc.property(deltas, bounds, (numbers, bound) => {
      const before = deltaOf(numbers);
      const first = protect(before, manifest, clip(bound));
      const values = flat(first);
      const original = manifest.flatMap(({ name }) => [...(before.get(name) ?? [])]);
      const withinBound = first.normL2.sent <= bound && first.normL2.sent <= first.normL2.trained;
      const sameSigns = values.every(
        (value, index) =>
          Math.abs(value) <= Math.abs(original[index] ?? 0) && value * (original[index] ?? 0) >= 0,
      );
      const again = flat(protect(first.values, manifest, clip(bound)));
      return withinBound && sameSigns && again.every((value, index) => Object.is(value, values[index]));
    }),
    { numRuns: 2000, seed: 1 },
  );
  fc.assert(
    fc.property(
      fc.array(fc.float({ min: Math.fround(-1e3), max: Math.fround(1e3), noNaN: true }), {
        minLength: 7,
        maxLength: 7,
      }),
      fc.double({ min: 0.01, max: 1, noNaN: true }),
      (numbers, bound) => {
        const original = [...deltaOf(numbers).values()].flatMap((tensor) => [...tensor]);
        const length = normL2([Float32Array.from(original)]);
        if (length <= bound) return true;
        const values = flat(protect(deltaOf(numbers), manifest, clip(bound)));
        const dot = values.reduce((sum, value, index) => sum + value * (original[index] ?? 0), 0);
        return dot / (length * normL2([Float32Array.from(values)])) > 1 - 1e-9;
      },
    ),
    { numRuns: 2000, seed: 1 },
  );
});

t.test("what is not finite, missing, superfluous or of another size is refused", async (t) => {
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    const numbers = [1, 2, 3, bad, 5, 6, 7];
    t.throws(() => protect(deltaOf(numbers), manifest, clip(1)), { code: "delta.not-finite" });
  }
  const delta = deltaOf([1, 2, 3, 4, 5, 6, 7]);
  t.throws(() => protect(new Map([...delta].slice(1)), manifest, clip(1)), { code: "delta.mismatch" });
  t.throws(() => protect(new Map([...delta, ["c", new Float32Array(1)]]), manifest, clip(1)), {
    code: "delta.mismatch",
  });
  t.throws(() => protect(new Map([...delta, ["b", new Float32Array(3)]]), manifest, clip(1)), {
    code: "delta.mismatch",
  });
});
