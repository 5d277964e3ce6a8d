import { existsSync, readFileSync } from "node:fs";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { float32Values, readTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";
import t from "tap";
import { connectedComponents, largestComponent } from "./connected-components.ts";
import { coveredShares } from "./covered-shares.ts";
import { clampedLogit, maskLogitsFromProbabilities, maskLogitsFromTruth, roughened } from "./mask-logits.ts";
import { filledBox, filledBoxLabels, jitteredBox, SAM2_JITTER, tightBox, widenedBox } from "./pixel-box.ts";
import { correctionPoints, uniformPoints } from "./prompt-points.ts";
import { resizedPlane } from "./resize-plane.ts";

/** A mask from rows of characters; everything but a dot belongs to it. */
const drawing = (...rows: string[]): Uint8Array =>
  Uint8Array.from(rows.join(""), (char) => (char === "." ? 0 : 1));

t.test("components connect at corners, across slices too, and the largest is found", async (t) => {
  const mask = drawing("##..#", "..#..", "....#", "#...#");
  const { components, sizes } = connectedComponents(mask, { depth: 1, height: 4, width: 5 });
  t.strictSame(sizes, [3, 1, 2, 1]);
  t.strictSame([...components.subarray(0, 10)], [1, 1, 0, 0, 2, 0, 0, 1, 0, 0]);
  t.strictSame(
    largestComponent(mask, { depth: 1, height: 4, width: 5 }),
    drawing("##...", "..#..", ".....", "....."),
  );
  const stack = Uint8Array.from([...drawing("#..", "...", "..#"), ...drawing("...", ".#.", "...")]);
  t.strictSame(connectedComponents(stack, { depth: 2, height: 3, width: 3 }).sizes, [3]);
  t.strictSame(connectedComponents(stack, { depth: 1, height: 6, width: 3 }).sizes, [1, 1, 1]);
  t.equal(largestComponent(new Uint8Array(9), { depth: 1, height: 3, width: 3 }), null);
  const edges = drawing("..#", "#..");
  t.strictSame(
    connectedComponents(edges, { depth: 1, height: 2, width: 3 }).sizes,
    [1, 1],
    "rows do not run on",
  );
});

t.test("boxes are tight, widened within the slice, and filled to what they cover", async (t) => {
  const size = { height: 4, width: 6 };
  const mask = drawing("......", ".##...", "...#..", "......");
  const box = { x1: 1, y1: 1, x2: 3, y2: 2 };
  t.strictSame(tightBox(mask, size), box);
  t.equal(tightBox(new Uint8Array(24), size), null);
  t.strictSame(widenedBox(box, { share: 0.02, pixelsMin: 1 }, size), { x1: 0, y1: 0, x2: 4, y2: 3 });
  t.strictSame(widenedBox(box, { share: 0.5, pixelsMin: 1 }, size), { x1: 0, y1: 0, x2: 4.5, y2: 3 });
  t.strictSame(filledBox(box, size), drawing("......", ".###..", ".###..", "......"));
  t.strictSame(
    filledBox({ x1: 0.5, y1: 0.2, x2: 2.9, y2: 1.9 }, size),
    drawing("......", ".##...", "......", "......"),
  );
  const boxes = [
    { label: 2, box: { x1: 1, y1: 1, x2: 1, y2: 1 } },
    { label: 1, box },
  ];
  t.strictSame(
    [...filledBoxLabels(boxes, size).subarray(6, 12)],
    [0, 2, 1, 1, 0, 0],
    "the smaller is on top",
  );
});

t.test("a jittered box stays within a tenth of its side, twenty pixels and the slice", async (t) => {
  const size = { height: 600, width: 600 };
  const prng = new Prng(3);
  const moved = (box: { x1: number; y1: number; x2: number; y2: number }): number[] => {
    const { x1, y1, x2, y2 } = jitteredBox(box, SAM2_JITTER, { size, prng });
    return [x1 - box.x1, y1 - box.y1, x2 - box.x2, y2 - box.y2].map(Math.abs);
  };
  const largest = (box: { x1: number; y1: number; x2: number; y2: number }): number[] =>
    Array.from({ length: 400 }, () => moved(box)).reduce((most, one) =>
      most.map((v, i) => Math.max(v, one[i] ?? 0)),
    );
  const [dx1 = 0, dy1 = 0, dx2 = 0, dy2 = 0] = largest({ x1: 100, y1: 100, x2: 200, y2: 500 });
  for (const d of [dx1, dx2]) t.ok(d > 9 && d <= 10, `${d} of a side of 100`);
  for (const d of [dy1, dy2]) t.ok(d > 19 && d <= 20, `${d} of a side of 400`);
  t.strictSame(largest({ x1: 5, y1: 7, x2: 5, y2: 7 }), [0, 0, 0, 0], "a pixel cannot move");
  for (let index = 0; index < 100; index += 1) {
    const { x1, y2 } = jitteredBox({ x1: 0, y1: 0, x2: 599, y2: 599 }, SAM2_JITTER, { size, prng });
    if (x1 < 0 || y2 > 599) t.fail("outside the slice");
  }
});

t.test("points lie on the object, beside it, or where the prediction is wrong", async (t) => {
  const size = { height: 2, width: 4 };
  const mask = drawing("..##", "....");
  const at = (x: number, y: number): number => mask[y * 4 + x] ?? 9;
  const given = { size, prng: new Prng(1) };
  const points = uniformPoints(mask, { positiveCount: 30, negativeCount: 30 }, given);
  t.equal(points.length, 60);
  for (const { x, y, isPositive } of points) if (at(x, y) !== (isPositive ? 1 : 0)) t.fail(`${x},${y}`);
  t.equal(new Set(points.map(({ x, y }) => y * 4 + x)).size, 8, "all pixels are drawn sooner or later");
  const none = new Uint8Array(8);
  t.strictSame(uniformPoints(none, { positiveCount: 2, negativeCount: 0 }, given), []);

  const predicted = drawing("..#.", "#...");
  const corrections = correctionPoints({ truth: mask, predicted }, 40, given);
  t.strictSame(
    new Set(corrections.map(({ x, y, isPositive }) => `${x},${y},${isPositive}`)),
    new Set(["3,0,true", "0,1,false"]),
  );
  const right = correctionPoints({ truth: mask, predicted: mask }, 20, given);
  t.ok(
    right.every(({ x, y, isPositive }) => !isPositive && at(x, y) === 0),
    "no error: negative points beside",
  );
});

t.test("log-odds are clamped, and drawn masks are moved, grown and shrunk", async (t) => {
  t.strictSame([0, 1, 0.5, Number.NaN].map(clampedLogit), [-10, 10, 0, -10]);
  t.ok(Math.abs(clampedLogit(0.9) - Math.log(9)) < 1e-12);
  const size = { height: 8, width: 8 };
  const grid = { height: 2, width: 2 };
  const half = Float32Array.from({ length: 64 }, (_, pixel) => (pixel % 8 < 4 ? 1 : 0));
  const [left = 0, right = 0] = maskLogitsFromProbabilities(half, size, grid);
  t.ok(left > 7 && right < -7, `${left} ${right}`);

  const mask = new Uint8Array(64);
  for (const pixel of [27, 28, 35, 36]) mask[pixel] = 1;
  const count = (shiftPxMax: number, growPxMax: number, seed: number): number =>
    roughened(mask, size, { roughness: { shiftPxMax, growPxMax }, prng: new Prng(seed) }).reduce(
      (a, b) => a + b,
      0,
    );
  const counts = new Set(Array.from({ length: 40 }, (_, seed) => count(0, 1, seed)));
  t.strictSame(
    [...counts].sort((a, b) => a - b),
    [0, 4, 12],
    "shrunk away, kept, grown by its border",
  );
  t.ok(
    Array.from({ length: 20 }, (_, seed) => count(2, 0, seed)).every((pixels) => pixels === 4),
    "moved whole",
  );
  const options = (seed: number) => ({ roughness: { shiftPxMax: 2, growPxMax: 1 }, prng: new Prng(seed) });
  const sizes = { size, grid: size };
  t.strictSame(maskLogitsFromTruth(mask, sizes, options(5)), maskLogitsFromTruth(mask, sizes, options(5)));
  t.notSame(maskLogitsFromTruth(mask, sizes, options(5)), maskLogitsFromTruth(mask, sizes, options(6)));
});

const OPS = "../shared/goldens/ops-a";
t.test(
  "resizing is PyTorch's bilinear interpolation with antialiasing",
  { skip: !existsSync(OPS) && `no ${OPS}` },
  async (t) => {
    const read = (file: string) => readTensorBundle(readFileSync(`${OPS}/${file}.safetensors`)).tensors;
    const inputs = read("inputs");
    const outputs = read("outputs");
    for (const name of ["antialias_down4", "antialias_frac", "antialias_up", "up4"]) {
      const input = expectDefined(inputs.get(`bilinear_${name}/x`), name);
      const output = expectDefined(outputs.get(`bilinear_${name}/y`), name);
      const [, channels = 0, height = 0, width = 0] = input.shape;
      const [, , toHeight = 0, toWidth = 0] = output.shape;
      const from = { height, width };
      const to = { height: toHeight, width: toWidth };
      const expected = float32Values(output);
      for (let channel = 0; channel < channels; channel += 1) {
        const plane = float32Values(input).subarray(channel * height * width, (channel + 1) * height * width);
        const offset = channel * toHeight * toWidth;
        const worst = resizedPlane(plane, from, to).reduce(
          (most, value, index) => Math.max(most, Math.abs(value - (expected[offset + index] ?? 99))),
          0,
        );
        t.ok(worst < 2e-6, `${name}: ${worst}`);
      }
    }
    const plane = Float32Array.of(1, 2, 3, 4);
    t.strictSame(resizedPlane(plane, { height: 2, width: 2 }, { height: 2, width: 2 }), plane);
  },
);

t.test("a cell says what share of it a mask covers", async (t) => {
  const mask = Uint8Array.of(1, 1, 0, 0, 1, 0, 0, 1);
  t.strictSame([...coveredShares(mask, { height: 2, width: 4 }, { height: 1, width: 2 })], [0.75, 0.25]);
  t.strictSame([...coveredShares(mask, { height: 2, width: 4 }, { height: 2, width: 1 })], [0.5, 0.5]);
  t.throws(() => coveredShares(mask, { height: 2, width: 4 }, { height: 2, width: 3 }), /whole pixels/);
});
