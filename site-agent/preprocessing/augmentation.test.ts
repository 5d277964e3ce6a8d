import { Prng } from "@consilium/shared/base/prng.ts";
import t from "tap";
import { mirror, transformGeometry } from "./augment-geometry.ts";
import { blur, changeContrast, changeGamma, lowerResolution } from "./augment-intensity.ts";
import { type AugmentationRecord, augment, NNUNET_AUGMENTATION } from "./augmentation.ts";
import { cutPatch, samplePatch } from "./patch-sampling.ts";
import type { Slice } from "./prepare.ts";

const STILL = { radians: 0, magnification: 1, shiftRows: 0, shiftColumns: 0 };

function randomSlice(height: number, width: number, channels = 1): Slice {
  const prng = new Prng(height * 1000 + width);
  const image = Float32Array.from({ length: height * width * channels }, () => prng.normal());
  const labels = Uint8Array.from({ length: height * width }, () => prng.int(0, 2));
  return { image, labels, height, width, channels, contoured: [1, 2] };
}

/** Every change happens every time. */
const ALWAYS: AugmentationRecord = {
  rotation: { ...NNUNET_AUGMENTATION.rotation, probability: 1 },
  scaling: { ...NNUNET_AUGMENTATION.scaling, probability: 1 },
  translation: { ...NNUNET_AUGMENTATION.translation, probability: 1 },
  noise: { ...NNUNET_AUGMENTATION.noise, probability: 1 },
  blur: { ...NNUNET_AUGMENTATION.blur, probability: 1, perChannel: 1 },
  brightness: { ...NNUNET_AUGMENTATION.brightness, probability: 1 },
  contrast: { ...NNUNET_AUGMENTATION.contrast, probability: 1 },
  lowResolution: { ...NNUNET_AUGMENTATION.lowResolution, probability: 1, perChannel: 1 },
  gammaInverted: { ...NNUNET_AUGMENTATION.gammaInverted, probability: 1 },
  gamma: { ...NNUNET_AUGMENTATION.gamma, probability: 1 },
  mirroring: { probability: 1 },
};

t.test(
  "the same seed gives the same slice, another seed another, and the input stays as it was",
  async (t) => {
    const slice = randomSlice(20, 24, 3);
    const before = { image: slice.image.slice(), labels: slice.labels.slice() };
    const once = (seed: number): Slice =>
      augment(slice, { record: ALWAYS, mirrorAxes: ["row", "column"] }, new Prng(seed));
    t.strictSame(once(1), once(1));
    t.notSame(once(1).image, once(2).image);
    t.strictSame({ image: slice.image, labels: slice.labels }, before);
    t.ok(once(3).image.every(Number.isFinite));
    t.strictSame(once(3).contoured, [1, 2]);
  },
);

t.test("with every probability at zero the slice is unchanged but not shared", async (t) => {
  const off = Object.fromEntries(
    Object.entries(ALWAYS).map(([name, one]) => [name, { ...one, probability: 0 }]),
  );
  const record = off as unknown as AugmentationRecord; // The same keys and fields, with other numbers.
  const slice = randomSlice(8, 8);
  const result = augment(slice, { record, mirrorAxes: ["row"] }, new Prng(1));
  t.strictSame(result.image, slice.image);
  t.not(result.image, slice.image);
});

t.test("nothing is mirrored unless the study allows the axis", async (t) => {
  const record: AugmentationRecord = {
    ...NNUNET_AUGMENTATION,
    rotation: { probability: 0, radiansMax: 0 },
    scaling: { probability: 0, range: [1, 1] },
    translation: { probability: 0, shareMax: 0 },
  };
  const slice = randomSlice(9, 9);
  for (let seed = 0; seed < 50; seed += 1) {
    const still = augment(slice, { record, mirrorAxes: [] }, new Prng(seed));
    if (!Buffer.from(still.labels).equals(Buffer.from(slice.labels))) t.fail(`seed ${seed}`);
  }
  const flipped = augment(
    slice,
    { record: { ...record, mirroring: { probability: 1 } }, mirrorAxes: ["column"] },
    new Prng(1),
  );
  t.strictSame([...flipped.labels.slice(0, 9)], [...slice.labels.slice(0, 9)].reverse());
});

t.test("mirroring twice gives the slice back", async (t) => {
  const slice = randomSlice(6, 7, 2);
  t.strictSame(mirror(mirror(slice, ["row", "column"]), ["row", "column"]), slice);
  t.strictSame([...mirror(slice, ["row"]).labels.slice(0, 7)], [...slice.labels.slice(35)]);
});

t.test("image and labels move together", async (t) => {
  const slice = randomSlice(9, 9);
  t.strictSame(transformGeometry(slice, STILL), slice);
  const shifted = transformGeometry(slice, { ...STILL, shiftRows: 2, shiftColumns: -1 });
  t.equal(shifted.image[2 * 9], slice.image[1]);
  t.equal(shifted.labels[2 * 9], slice.labels[1]);
  t.equal(shifted.labels[0], 0, "what comes in is background");
  t.equal(shifted.image[0], Math.min(...slice.image));
  const quarter = transformGeometry(slice, { ...STILL, radians: Math.PI / 2 });
  const turned = Array.from(
    { length: 81 },
    (_, pixel) => slice.labels[(8 - (pixel % 9)) * 9 + Math.floor(pixel / 9)],
  );
  t.strictSame([...quarter.labels], turned, "a quarter turn clockwise");
  const dot: Slice = { ...slice, labels: new Uint8Array(81).fill(1, 40, 41) };
  const grown = transformGeometry(dot, { ...STILL, magnification: 3 });
  t.equal(grown.labels.filter((label) => label === 1).length, 9, "one pixel grows to nine");
});

t.test("blur, contrast, gamma and resolution keep what they promise", async (t) => {
  const mean = (values: Float32Array): number =>
    values.reduce((sum, value) => sum + value, 0) / values.length;
  const std = (values: Float32Array): number =>
    Math.sqrt(values.reduce((sum, value) => sum + (value - mean(values)) ** 2, 0) / values.length);
  const constant: Slice = { ...randomSlice(8, 8), image: new Float32Array(64).fill(2) };
  blur(constant, 0, 0.8);
  lowerResolution(constant, 0, 0.6);
  changeContrast(constant, 1.2);
  changeGamma(constant, { gamma: 1.4, isInverted: true });
  t.ok(
    constant.image.every((value) => Math.abs(value - 2) < 1e-6),
    "a constant stays a constant",
  );
  for (const isInverted of [false, true]) {
    const slice = randomSlice(16, 16);
    const ranks = (image: Float32Array): number[] =>
      [...image.keys()].sort((a, b) => (image[a] ?? 0) - (image[b] ?? 0));
    const before = { mean: mean(slice.image), std: std(slice.image), ranks: ranks(slice.image) };
    changeGamma(slice, { gamma: 1.5, isInverted });
    t.ok(Math.abs(mean(slice.image) - before.mean) < 1e-5 && Math.abs(std(slice.image) - before.std) < 1e-5);
    t.strictSame(ranks(slice.image), before.ranks, "gamma never changes which pixel is brighter");
  }
  const noisy = randomSlice(16, 16);
  const deviation = std(noisy.image);
  blur(noisy, 0, 1);
  t.ok(std(noisy.image) < 0.5 * deviation);
  const stretched = randomSlice(16, 16);
  const [least, most] = [Math.min(...stretched.image), Math.max(...stretched.image)];
  changeContrast(stretched, 1.25);
  t.ok(Math.min(...stretched.image) >= least && Math.max(...stretched.image) <= most);
});

t.test("changes happen as often as the record says", async (t) => {
  const prng = new Prng(12);
  const slice = randomSlice(4, 4);
  let mirrored = 0;
  for (let round = 0; round < 2000; round += 1) {
    const record = {
      ...NNUNET_AUGMENTATION,
      rotation: { probability: 0, radiansMax: 0 },
      scaling: { probability: 0, range: [1, 1] as const },
      translation: { probability: 0, shareMax: 0 },
    };
    const result = augment(slice, { record, mirrorAxes: ["row"] }, prng);
    if (!Buffer.from(result.labels).equals(Buffer.from(slice.labels))) mirrored += 1;
  }
  t.ok(Math.abs(mirrored / 2000 - 0.5) < 0.04, `${mirrored} of 2000 mirrored`);
});

t.test("patches lie within the slice and find labelled pixels", async (t) => {
  const labels = new Uint8Array(40 * 50);
  labels[7 * 50 + 44] = 2;
  const slice: Slice = { ...randomSlice(40, 50, 2), labels };
  const prng = new Prng(3);
  for (let round = 0; round < 200; round += 1) {
    const patch = samplePatch(slice, { height: 16, width: 24, foregroundShare: 1 }, prng);
    if (!patch.labels.includes(2) || patch.image.length !== 16 * 24 * 2) t.fail(`round ${round}`);
  }
  const anywhere = Array.from({ length: 200 }, () =>
    samplePatch(slice, { height: 16, width: 24, foregroundShare: 0 }, prng),
  );
  t.ok(anywhere.some((patch) => !patch.labels.includes(2)));
  const corner = cutPatch(slice, { top: 24, left: 26, height: 16, width: 24 });
  t.equal(corner.image.at(-1), slice.image.at(-1));
  t.equal(samplePatch(slice, { height: 40, width: 50, foregroundShare: 1 }, prng), slice);
});
