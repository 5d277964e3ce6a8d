import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { type AdapterPlan, RFMEDSAM2_ADAPTERS } from "@consilium/shared/model/adapters.ts";
import { adapterParameters, initialAdapterWeights } from "@consilium/shared/model/adapters-parameters.ts";
import type { ImageAdapterPlace } from "@consilium/shared/model/adapters-places.ts";
import { elementCount, type ParameterSpec } from "@consilium/shared/model/parameter-manifest.ts";
import { sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import { sam2Variants } from "@consilium/shared/model/sam2-variants.ts";
import t from "tap";
import { gradientDeviations } from "../../../test/support/finite-differences.ts";
import { loadBackendPackage, tf } from "../../backend/tensors.ts";
import { installTrainingKernels } from "../../backend/wasm-kernels/install.ts";
import { linear } from "../nn/linear.ts";
import { ModelPart } from "../nn/model-part.ts";
import { encodeImages } from "../sam2/image-encoder.ts";
import { Sam2 } from "../sam2/sam2.ts";
import { adaptImage } from "./adapter.ts";
import { LowRankWeights } from "./lora.ts";
import { Sam2Adapters } from "./placement.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
installTrainingKernels();

const { micro } = sam2Variants;
const LORA: AdapterPlan = [{ kind: "lora", rank: 2, alpha: 4, placements: ["trunk-qkv", "trunk-proj"] }];

/** Weights of some size everywhere, the last layers included. */
function someWeights(specs: readonly ParameterSpec[], seed: number, size = 0.3): Map<string, Float32Array> {
  return new Map(
    specs.map((spec) => {
      const prng = Prng.labelled(seed, spec.name);
      const values = Float32Array.from({ length: elementCount(spec) }, () => prng.uniform(-size, size));
      return [spec.name, spec.name.includes("norm") ? values.map((value) => value + 1) : values];
    }),
  );
}

/** The object counts as there, so that the masks depend on the image. */
function sam2Weights(): Map<string, Float32Array> {
  const weights = someWeights(sam2Parameters(micro), 5, 0.1);
  return weights.set("sam_mask_decoder.pred_obj_score_head.layers.2.bias", Float32Array.of(5));
}

const [C, R, K] = [6, 4, 3];
const SHAPES: Record<ImageAdapterPlace["kind"], Record<string, number[]>> = {
  dwconv: {
    "norm1.weight": [C],
    "norm1.bias": [C],
    "fc1.weight": [C, R],
    "fc1.bias": [R],
    "dwconv.weight": [K, K, R, 1],
    "dwconv.bias": [R],
    "norm2.weight": [R],
    "norm2.bias": [R],
    "fc2.weight": [R, C],
    "fc2.bias": [C],
  },
  cnn: {
    "conv1.weight": [1, 1, C, R],
    "conv1.bias": [R],
    "dwconv.weight": [K, K, R, 1],
    "dwconv.bias": [R],
    "conv2.weight": [1, 1, R, C],
    "conv2.bias": [C],
  },
  bottleneck: { "fc1.weight": [C, R], "fc1.bias": [R], "fc2.weight": [R, C], "fc2.bias": [C] },
};

const PLACES: ImageAdapterPlace[] = [
  { kind: "dwconv", order: "sequential", name: "part", channels: C, width: R },
  { kind: "dwconv", order: "inner-residual", name: "part", channels: C, width: R },
  { kind: "cnn", name: "part", channels: C, width: R },
  { kind: "bottleneck", name: "part", channels: C, width: R },
];

function partOf(names: readonly string[], tensors: readonly tf.Tensor[]): ModelPart {
  const tensor = <Rank extends tf.Rank>(name: string) =>
    expectDefined(tensors[names.indexOf(name)], name) as tf.Tensor<Rank>; // The rank of the table above.
  return new ModelPart({ tensor });
}

t.test("the gradients of every kind of adapter are those of finite differences", async (t) => {
  for (const place of PLACES) {
    tf.tidy(() => {
      const entries = Object.entries(SHAPES[place.kind]);
      const names = entries.map(([name]) => name);
      const tensors = entries.map(([name, shape], index) => {
        const values = tf.randomUniform(shape, -0.7, 0.7, "float32", 11 + index);
        return name.startsWith("norm") && name.endsWith("weight") ? tf.add(values, 1) : values;
      });
      const image = tf.randomUniform([2, 4, 5, C], -1, 1, "float32", 3);
      const looks = tf.randomUniform([2, 4, 5, C], -1, 1, "float32", 4);
      const loss = (x: tf.Tensor, ...weights: tf.Tensor[]): tf.Scalar =>
        tf.sum(tf.mul(adaptImage(x as tf.Tensor4D, place, partOf(names, weights)), looks)); // Four axes.
      const deviations = gradientDeviations(loss, [image, ...tensors]);
      deviations.forEach((deviation, index) => {
        t.ok(deviation < 0.01, `${place.kind} ${["image", ...names][index]}: ${deviation}`);
      });
    });
  }
});

t.test("differences notice a gradient that is wrong", async (t) => {
  const wrong = tf.customGrad((x) => ({ value: tf.square(x as tf.Tensor), gradFunc: (dy) => tf.mul(dy, 3) }));
  const [deviation = 0] = gradientDeviations((x) => tf.sum(wrong(x)), [tf.tensor1d([1, 2, 3])]);
  t.ok(deviation > 0.3);
});

t.test("the layers of each kind do what their formulas say", async (t) => {
  // One place of one image: the depth-wise convolution sees its centre only. Numbers by hand.
  const gelu = (x: number) => x * 0.5 * (1 + erf(x / Math.SQRT2));
  const value = (place: ImageAdapterPlace, weights: Record<string, tf.Tensor>, x: number[]) => {
    const part = partOf(Object.keys(weights), Object.values(weights));
    return [...adaptImage(tf.tensor4d(x, [1, 1, 1, 2]), place, part).dataSync()];
  };
  const kernel = tf.tensor4d([0, 0, 0, 0, 2, 0, 0, 0, 0], [3, 3, 1, 1]);
  const ends = { "fc2.weight": tf.tensor2d([[3, -1]]), "fc2.bias": tf.tensor1d([0.5, 0]) };
  const fc1 = { "fc1.weight": tf.tensor2d([[1], [0.5]]), "fc1.bias": tf.tensor1d([0.1]) };
  const near = (found: number[], expected: number[], name: string) =>
    found.forEach((one, index) => {
      t.ok(Math.abs(one - (expected[index] ?? Number.NaN)) < 1e-4, `${name}: ${one}`);
    });
  const small = { name: "part", channels: 2, width: 1 };
  const plain = 2 * 1 + 4 * 0.5 + 0.1;
  near(
    value({ kind: "bottleneck", ...small }, { ...fc1, ...ends }, [2, 4]),
    [2 + 3 * gelu(plain) + 0.5, 4 - gelu(plain)],
    "bottleneck",
  );
  const cnn = {
    "conv1.weight": tf.tensor4d([1, 0.5], [1, 1, 2, 1]),
    "conv1.bias": tf.tensor1d([0.1]),
    "dwconv.weight": kernel,
    "dwconv.bias": tf.tensor1d([0.2]),
    "conv2.weight": tf.tensor4d([3, -1], [1, 1, 1, 2]),
    "conv2.bias": tf.tensor1d([0.5, 0]),
  };
  const local = 2 * gelu(plain) + 0.2;
  near(value({ kind: "cnn", ...small }, cnn, [2, 4]), [2 + 3 * local + 0.5, 4 - local], "cnn");
  // Normalised, two channels are -1 and 1; one channel is 0, so that the inner norm leaves its shift.
  const norms = {
    "norm1.weight": tf.tensor1d([1, 1]),
    "norm1.bias": tf.tensor1d([0, 0]),
    "norm2.weight": tf.tensor1d([1]),
    "norm2.bias": tf.tensor1d([0.7]),
  };
  const conv = { "dwconv.weight": kernel, "dwconv.bias": tf.tensor1d([0.2]) };
  const all = { ...norms, ...fc1, ...conv, ...ends };
  const sequential = value({ kind: "dwconv", order: "sequential", ...small }, all, [2, 4]);
  near(sequential, [2 + 3 * 0.7 + 0.5, 4 - 0.7], "sequential");
  const inner = gelu(-1 + 0.5 + 0.1) + gelu(0.7);
  const residual = value({ kind: "dwconv", order: "inner-residual", ...small }, all, [2, 4]);
  near(residual, [2 + 3 * inner + 0.5, 4 - inner], "inner-residual");
});

/** Abramowitz and Stegun 1964, 7.1.26; within 1.5e-7. */
function erf(x: number): number {
  const s = 1 / (1 + 0.3275911 * Math.abs(x));
  const sum = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592].reduce(
    (total, factor) => total * s + factor,
    0,
  );
  return Math.sign(x) * (1 - sum * s * Math.exp(-x * x));
}

t.test("a low-rank update changes the layer by scale times B A, with exact gradients", async (t) => {
  tf.tidy(() => {
    const place = { kind: "lora", name: "qkv", inChannels: 4, outChannels: 6, rank: 2, scale: 0.5 } as const;
    const base = { "qkv.weight": tf.randomUniform([4, 6], -1, 1, "float32", 1), "qkv.bias": tf.zeros([6]) };
    const source = (named: Record<string, tf.Tensor>) => ({
      tensor: <Rank extends tf.Rank>(name: string) => expectDefined(named[name], name) as tf.Tensor<Rank>, // As named.
    });
    const layer = (x: tf.Tensor, down: tf.Tensor, up: tf.Tensor) => {
      const own = source({ "qkv.lora_A.weight": down, "qkv.lora_B.weight": up });
      return linear(x, new ModelPart(new LowRankWeights(source(base), [place], own)).linear("qkv"));
    };
    const x = tf.randomUniform([3, 4], -1, 1, "float32", 2);
    const down = tf.randomUniform([4, 2], -1, 1, "float32", 3);
    const up = tf.randomUniform([2, 6], -1, 1, "float32", 4);
    const expected = tf.add(tf.matMul(x, base["qkv.weight"]), tf.mul(tf.matMul(tf.matMul(x, down), up), 0.5));
    t.ok((tf.max(tf.abs(tf.sub(layer(x, down, up), expected))).dataSync()[0] ?? 1) < 1e-5);
    t.strictSame(
      layer(x, down, tf.zeros([2, 6])).dataSync(),
      linear(x, new ModelPart(source(base)).linear("qkv")).dataSync(),
    );
    const looks = tf.randomUniform([3, 6], -1, 1, "float32", 5);
    const deviations = gradientDeviations(
      (...given) => {
        const [image = x, a = down, b = up] = given;
        return tf.sum(tf.mul(layer(image, a, b), looks));
      },
      [x, down, up],
    );
    for (const deviation of deviations) t.ok(deviation < 0.01, String(deviation));
  });
});

/** Two frames, the second of which remembers the first: every adapter is on the way to the second one's mask. */
function secondMask(model: Sam2, images: tf.Tensor4D): tf.Tensor4D {
  return tf.tidy(() => {
    const features = model.encode(images);
    const bank = { conditioning: new Map(), tracked: new Map() };
    const at = { frameCount: 2, reverse: false, training: true, features, bank };
    const points = { coordinates: [40, 60, 90, 100], labels: [2, 3], pointCount: 2 };
    const first = model.track({ ...at, frame: 0, prompts: { points }, isFirst: true });
    bank.conditioning.set(0, first.memory);
    return model.track({ ...at, frame: 1, prompts: { points }, isFirst: false }).lowMasks;
  });
}

t.test("with adapters that start at zero the model is SAM 2, and no tensor is left over", async (t) => {
  const before = tf.memory().numTensors;
  const images = tf.randomUniform<tf.Rank.R4>([1, 128, 128, 3], -1, 1, "float32", 9);
  const adapters = new Sam2Adapters(
    RFMEDSAM2_ADAPTERS,
    micro,
    initialAdapterWeights(RFMEDSAM2_ADAPTERS, micro, 3),
  );
  const plain = new Sam2(micro, sam2Weights());
  const adapted = new Sam2(micro, sam2Weights(), { hooks: adapters.hooks });
  const [expected, found] = [plain, adapted].map((model) => {
    const masks = secondMask(model, images);
    const values = masks.dataSync();
    masks.dispose();
    return values;
  });
  t.strictSame(found, expected);
  for (const owner of [plain, adapted, adapters, images]) owner.dispose();
  t.equal(tf.memory().numTensors, before);
});

t.test("the loss of a tracked frame moves every trained tensor of every adapter", async (t) => {
  const specs = adapterParameters(RFMEDSAM2_ADAPTERS, micro);
  // The decoder's own convolutions of the fine levels, which are computed again with the pyramid.
  const trainable = sam2Parameters(micro).filter(({ name }) => name.startsWith("sam_mask_decoder.conv_s"));
  const adapters = new Sam2Adapters(RFMEDSAM2_ADAPTERS, micro, someWeights(specs, 3));
  const images = tf.randomUniform<tf.Rank.R4>([1, 128, 128, 3], -1, 1, "float32", 9);
  const names = [...specs, ...trainable].map(({ name }) => name);
  const gradients = (recompute: boolean) => {
    const model = new Sam2(micro, sam2Weights(), { hooks: adapters.hooks, recompute, trainable });
    const tensors = [adapters, model].flatMap(({ parameters }) => [...parameters.trainable().values()]);
    const before = tf.memory().numTensors;
    const loss = () => tf.mean(tf.square(secondMask(model, images))) as tf.Scalar; // A mean over all axes.
    const { value, grads } = tf.valueAndGrads(loss)(tensors);
    const values = grads.map((gradient) => gradient.dataSync());
    tf.dispose([value, grads]);
    t.equal(tf.memory().numTensors, before, "no tensor is left over");
    model.dispose();
    return values;
  };
  const kept = gradients(false);
  t.equal(kept.length, names.length);
  t.equal(trainable.length, 4);
  kept.forEach((gradient, index) => {
    t.ok(
      gradient.some((one) => one !== 0 && Number.isFinite(one)),
      names[index] ?? "",
    );
  });
  gradients(true).forEach((gradient, index) => {
    const deviation = largestDeviation(gradient, kept[index] ?? []);
    t.ok(deviation < 1e-5, `${names[index]}, computed again: ${deviation}`);
  });
  const block = adapters.hooks.recompute("image_encoder.trunk.blocks.1");
  t.equal(block.length, 10, "one adapter's tensors");
  for (const owner of [adapters, images]) owner.dispose();
});

/** As a share of the largest value. */
function largestDeviation(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  const values = Array.from(expected);
  const largest = Math.max(...values.map(Math.abs));
  return Math.max(...values.map((value, index) => Math.abs((found[index] ?? Number.NaN) - value))) / largest;
}

t.test("low-rank updates reach the features of the trunk, and change nothing at zero", async (t) => {
  const images = tf.randomUniform<tf.Rank.R4>([1, 128, 128, 3], -1, 1, "float32", 9);
  const model = new Sam2(micro, sam2Weights());
  const embedding = (adapters: Sam2Adapters) =>
    tf.tidy(() => encodeImages(images, micro, new ModelPart(adapters.updated(model.parameters))).embedding);
  const start = new Sam2Adapters(LORA, micro, initialAdapterWeights(LORA, micro, 3));
  const plain = tf.tidy(() => model.encode(images).embedding.dataSync());
  t.strictSame(embedding(start).dataSync(), plain);
  const named = [...start.parameters.trainable()];
  const grads = tf.grads(() => tf.sum(tf.square(embedding(start))))(named.map(([, tensor]) => tensor));
  grads.forEach((gradient, index) => {
    const name = named[index]?.[0] ?? "";
    const moves = gradient.dataSync().some((one) => one !== 0);
    t.equal(moves, name.endsWith("lora_B.weight"), `${name}: only B moves at the start`);
  });
  const trained = new Sam2Adapters(LORA, micro, someWeights(adapterParameters(LORA, micro), 3));
  t.notSame(embedding(trained).dataSync(), plain);
  tf.dispose([images, grads]);
  for (const owner of [model, start, trained]) owner.dispose();
});
