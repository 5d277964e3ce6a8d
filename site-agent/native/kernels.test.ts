// The loops of our kernels for TensorFlow, compiled here without it, at every level of vector instructions that this
// processor has, against the same arithmetic in double precision.

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import t from "tap";
import { numbers } from "../../test/support/same-on-cpu.ts";
import { findCompiler } from "./compile-addon.ts";
import { commandRunner } from "./run-command.ts";

/** Rows and columns: less than a vector, whole vectors, and every kind of rest. */
const SHAPES = [
  [1, 1],
  [3, 4],
  [2, 15],
  [5, 16],
  [4, 17],
  [7, 24],
  [3, 96],
  [2, 255],
] as const;
const ROUNDING = 3e-6;

type Case = {
  readonly loop: string;
  readonly columns: number;
  readonly rows: number;
  readonly number?: number;
  readonly threads?: number;
};
type Loops = (level: string, of: Case, ...arrays: readonly Float32Array[]) => number[];

/** @returns null where there is no compiler */
async function compiled(folder: string): Promise<{ levels: string[]; call: Loops } | null> {
  const run = commandRunner(process.env, new AbortController().signal);
  const compiler = await findCompiler(undefined, run).catch(() => null);
  if (compiler === null) return null;
  const program = join(folder, "check-loops");
  const source = (name: string): string => fileURLToPath(new URL(`./kernels/${name}.cc`, import.meta.url));
  const sources = ["check-loops", "loops", "workers"].map(source);
  const warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-psabi"];
  execFileSync(compiler, ["-std=c++17", "-O3", "-pthread", ...warnings, ...sources, "-o", program]);
  const levels = execFileSync(program, { encoding: "utf8" }).trim().split("\n");
  const call: Loops = (level, { loop, rows, columns, number = 0, threads = 1 }, ...arrays) => {
    const input = Buffer.concat(arrays.map((array) => Buffer.from(array.buffer, 0, array.byteLength)));
    const words = [level, loop, rows, columns, number, threads].map(String);
    const output = execFileSync(program, words, { input });
    return [...new Float32Array(output.buffer.slice(output.byteOffset, output.byteOffset + output.length))];
  };
  return { levels, call };
}

const made = await compiled(t.testdir({}));

function atEveryLevel(name: string, check: (call: Loops, level: string) => void): void {
  t.test(name, { skip: made === null && "there is no C++ compiler" }, (t) => {
    for (const level of made?.levels ?? []) check(made?.call ?? (() => []), level);
    t.end();
  });
}

function expectNear(level: string, what: string, found: number[], expected: number[]): void {
  const largest = expected.reduce((max, value) => Math.max(max, Math.abs(value)), 1e-4);
  const error = expected.reduce(
    (max, value, index) => Math.max(max, Math.abs(value - (found[index] ?? Number.NaN))),
    0,
  );
  t.ok(error <= ROUNDING * largest && found.length === expected.length, `${level}, ${what}: ${error}`);
}

/** The normal distribution function, by the series of erf, or far out by the continued fraction of erfc. */
function distribution(x: number): number {
  const z = Math.abs(x) / Math.SQRT2;
  let erfc = 0;
  if (z < 3) {
    let [term, sum] = [z, z];
    for (let n = 1; n < 80; n += 1) {
      term *= -(z * z) / n;
      sum += term / (2 * n + 1);
    }
    erfc = 1 - (2 / Math.sqrt(Math.PI)) * sum;
  } else {
    let fraction = 0;
    for (let n = 60; n > 0; n -= 1) fraction = n / 2 / (z + fraction);
    erfc = Math.exp(-z * z) / (z + fraction) / Math.sqrt(Math.PI);
  }
  return x < 0 ? erfc / 2 : 1 - erfc / 2;
}

const density = (x: number): number => Math.exp(-(x * x) / 2) / Math.sqrt(2 * Math.PI);
const far = [-90, -40, -13, -9, -0, 0, 9, 13, 40, 90];

atEveryLevel("GELU and its slope, near zero and far from it, on one thread and on three", (call, level) => {
  for (const count of [1, 15, 16, 33, 1000]) {
    const x = numbers(`x ${count}`, count, 6);
    x.set(far.slice(0, count));
    const dy = numbers(`dy ${count}`, count);
    const expected = [...x].map((value) => value * distribution(value));
    for (const threads of [1, 3]) {
      const found = call(level, { loop: "gelu", rows: 1, columns: count, threads }, x);
      expectNear(level, `GELU of ${count}`, found, expected);
    }
    const slopes = [...x].map(
      (value, index) => (dy[index] ?? 0) * (distribution(value) + value * density(value)),
    );
    expectNear(
      level,
      `slopes of ${count}`,
      call(level, { loop: "gelu_gradient", rows: 1, columns: count }, x, dy),
      slopes,
    );
  }
});

const rowOf = (values: Float32Array, row: number, columns: number): number[] => [
  ...values.subarray(row * columns, (row + 1) * columns),
];
const meanOf = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
const EPSILON = 1e-5;

atEveryLevel("layer norm and both of its gradients", (call, level) => {
  for (const [rows, columns] of SHAPES) {
    const size = { rows, columns };
    const x = numbers("x", rows * columns, 3).map((value) => value + 1);
    const [gamma, beta, dy] = [numbers("g", columns), numbers("b", columns), numbers("dy", rows * columns)];
    const each = Array.from({ length: rows }, (_, row) => {
      const values = rowOf(x, row, columns);
      const mean = meanOf(values);
      const inverse = 1 / Math.sqrt(meanOf(values.map((value) => (value - mean) ** 2)) + EPSILON);
      const normalised = values.map((value) => (value - mean) * inverse);
      const scaled = rowOf(dy, row, columns).map((value, column) => value * (gamma[column] ?? 0));
      const parallel = meanOf(scaled.map((value, column) => value * (normalised[column] ?? 0)));
      const direct = meanOf(scaled);
      const gradient = scaled.map(
        (value, column) => (value - direct - (normalised[column] ?? 0) * parallel) * inverse,
      );
      return { mean, inverse, normalised, gradient };
    });
    const y = each.flatMap(({ normalised }) =>
      normalised.map((value, column) => value * (gamma[column] ?? 0) + (beta[column] ?? 0)),
    );
    const [means, inverses] = [each.map(({ mean }) => mean), each.map(({ inverse }) => inverse)];
    const forward = call(level, { loop: "layer_norm", ...size, number: EPSILON }, x, gamma, beta);
    // One column has no deviation: what is left of it is rounding, many times larger.
    if (columns > 1) expectNear(level, `norm [${rows}, ${columns}]`, forward, [...y, ...means, ...inverses]);
    const [middle, scale] = [Float32Array.from(means), Float32Array.from(inverses)];
    const gradients = call(level, { loop: "layer_norm_gradient", ...size }, x, gamma, middle, scale, dy);
    if (columns > 1)
      expectNear(
        level,
        `gradient [${rows}, ${columns}]`,
        gradients,
        each.flatMap(({ gradient }) => gradient),
      );
    const sums = Array.from({ length: columns }, (_, column) =>
      each.reduce(
        (sum, { normalised }, row) => sum + (normalised[column] ?? 0) * (dy[row * columns + column] ?? 0),
        0,
      ),
    );
    const ofScale = call(level, { loop: "layer_norm_scale_gradient", ...size }, x, middle, scale, dy);
    expectNear(level, `of the scale [${rows}, ${columns}]`, ofScale, sums);
  }
});

atEveryLevel("the parts of instance norm with a leaky ReLU behind it", (call, level) => {
  const slope = 0.1;
  for (const [rows, columns] of SHAPES) {
    const size = { rows, columns, number: slope };
    const [x, dy] = [numbers("x", rows * columns, 3), numbers("dy", rows * columns)];
    const [gamma, beta] = [numbers("gamma", columns), numbers("beta", columns)];
    const [direct, parallel] = [numbers("direct", columns), numbers("parallel", columns)];
    const columnOf = (values: Float32Array, column: number): number[] =>
      Array.from({ length: rows }, (_, row) => values[row * columns + column] ?? 0);
    const each = Array.from({ length: columns }, (_, column) => {
      const values = columnOf(x, column);
      const mean = meanOf(values);
      const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
      const inverse = 1 / Math.sqrt(squares / rows + 0.5);
      const normalised = values.map((value) => (value - mean) * inverse);
      const [scale = 0, shift = 0] = [gamma[column], beta[column]];
      const z = normalised.map((value) => value * scale + shift);
      const dz = columnOf(dy, column).map((value, row) => ((z[row] ?? 0) > 0 ? value : value * slope));
      const y = z.map((value) => (value > 0 ? value : value * slope));
      const dx = dz.map(
        (value, row) =>
          (value - (direct[column] ?? 0) - (normalised[row] ?? 0) * (parallel[column] ?? 0)) *
          inverse *
          scale,
      );
      const products = dz.reduce((sum, value, row) => sum + value * (normalised[row] ?? 0), 0);
      return { mean, squares, inverse, y, dx, sum: dz.reduce((sum, value) => sum + value, 0), products };
    });
    const inRows = (key: "y" | "dx"): number[] =>
      Array.from(
        { length: rows * columns },
        (_, index) => each[index % columns]?.[key][Math.floor(index / columns)] ?? 0,
      );
    const of = (key: "mean" | "squares" | "inverse" | "sum" | "products"): number[] =>
      each.map((one) => one[key]);
    const norm = [Float32Array.from(of("mean")), Float32Array.from(of("inverse")), gamma, beta] as const;
    const what = `[${rows}, ${columns}]`;
    const moments = call(level, { loop: "column_moments", ...size }, x);
    expectNear(level, `moments of ${what}`, moments, [...of("mean"), ...of("squares")]);
    expectNear(
      level,
      `norm ${what}`,
      call(level, { loop: "instance_norm", ...size }, x, ...norm),
      inRows("y"),
    );
    const sums = call(level, { loop: "instance_norm_sums", ...size }, x, ...norm, dy);
    expectNear(level, `sums of ${what}`, sums, [...of("sum"), ...of("products")]);
    const gradients = call(
      level,
      { loop: "instance_norm_gradient", ...size },
      x,
      ...norm,
      dy,
      direct,
      parallel,
    );
    expectNear(level, `gradient ${what}`, gradients, inRows("dx"));
  }
});

atEveryLevel("scaled softmax and its gradient, also of numbers far apart", (call, level) => {
  const factor = 0.3;
  for (const [rows, columns] of SHAPES) {
    const size = { rows, columns, number: factor };
    const x = numbers("x", rows * columns, 40);
    x.set([-3e4, 1e-3, 900].slice(0, columns));
    const dy = numbers("dy", rows * columns);
    const each = Array.from({ length: rows }, (_, row) => {
      const values = rowOf(x, row, columns);
      const greatest = Math.max(...values);
      const powers = values.map((value) => Math.exp(factor * (value - greatest)));
      const sum = powers.reduce((total, power) => total + power, 0);
      const shares = powers.map((power) => power / sum);
      const given = rowOf(dy, row, columns);
      const mean = shares.reduce((total, share, column) => total + share * (given[column] ?? 0), 0);
      const gradient = shares.map((share, column) => factor * share * ((given[column] ?? 0) - mean));
      return { shares, gradient };
    });
    const shares = each.flatMap((row) => row.shares);
    expectNear(
      level,
      `softmax [${rows}, ${columns}]`,
      call(level, { loop: "scaled_softmax", ...size }, x),
      shares,
    );
    const y = Float32Array.from(shares);
    const gradients = call(level, { loop: "scaled_softmax_gradient", ...size }, y, dy);
    expectNear(
      level,
      `gradient [${rows}, ${columns}]`,
      gradients,
      each.flatMap(({ gradient }) => gradient),
    );
  }
});

atEveryLevel("what is not a number stays none, whatever its bits are", (call, level) => {
  const odd = new Float32Array(new Uint32Array([0x7fc00001]).buffer);
  for (const place of [0, 3, 20]) {
    const x = numbers("x", 24);
    x.set(odd, place);
    const shares = call(level, { loop: "scaled_softmax", rows: 1, columns: 24, number: 1 }, x);
    t.ok(Number.isNaN(shares[place]), `${level}: softmax at ${place}`);
    const y = call(level, { loop: "gelu", rows: 1, columns: 24 }, x);
    t.strictSame(
      y.flatMap((value, index) => (Number.isNaN(value) ? [index] : [])),
      [place],
      `${level}: GELU`,
    );
  }
});

t.test("a program that is asked for what it has not says so", { skip: made === null }, (t) => {
  const wrong: Case = { loop: "no_such_loop", rows: 1, columns: 1 };
  t.throws(() => made?.call("baseline", wrong, numbers("x", 1)));
  t.throws(() => made?.call("no such level", { ...wrong, loop: "gelu" }, numbers("x", 1)));
  t.throws(() => made?.call("baseline", { ...wrong, loop: "gelu" }), "and numbers that are missing too");
  t.ok(made?.levels.includes("baseline"));
  t.end();
});
