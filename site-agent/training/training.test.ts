import { Prng } from "@consilium/shared/base/prng.ts";
import type { PlainConvUNetConfig } from "@consilium/shared/model/plain-conv-unet.ts";
import { initialPlainConvUNetWeights } from "@consilium/shared/model/plain-conv-unet-weights.ts";
import t from "tap";
import { expectKernels, kernelCensus, missingKernels } from "../backend/kernel-census.ts";
import { loadBackendPackage, tf } from "../backend/tensors.ts";
import { installTrainingKernels } from "../backend/wasm-kernels/install.ts";
import { applyDelta, subtract } from "../delta/delta.ts";
import { findRecipe } from "../recipes/registry.ts";
import { unetPrompter } from "../recipes/unet-prompter.ts";
import { ADAMW_DEFAULTS, exportAdamW, importAdamW, initialAdamW, updateAdamW } from "./adamw.ts";
import { learningRate } from "./learning-rate.ts";
import { Optimiser, trainStep } from "./optimiser.ts";
import { SliceSampler } from "./slice-sampler.ts";
import { type LocalTraining, trainLocally } from "./train-locally.ts";
import { batchTensors, disposeBatch, type TrainingSlice } from "./training-slice.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
const { heap } = installTrainingKernels();

const config: PlainConvUNetConfig = {
  inputChannels: 1,
  featuresPerStage: [4, 8, 8, 8],
  kernelSizes: Array.from({ length: 4 }, () => [3, 3]),
  strides: [1, 2, 2, 2].map((stride) => [stride, stride]),
  convsPerStage: [1, 1, 1, 1],
  convsPerStageDecoder: [1, 1, 1],
  classCount: 3,
  deepSupervision: true,
};

const LABELS = [0, 10, 20];

/** A bright square of label 10 or a dark one of label 20 on noise. */
function phantoms(count: number): TrainingSlice[] {
  const prng = Prng.labelled(1, "phantoms");
  return Array.from({ length: count }, (_, index) => {
    const image = Float32Array.from({ length: 256 }, () => prng.uniform(-0.5, 0.5));
    const labels = new Uint8Array(256);
    const [top, left] = [prng.int(0, 9), prng.int(0, 9)];
    for (let pixel = 0; index % 4 !== 3 && pixel < 36; pixel += 1) {
      const place = (top + Math.floor(pixel / 6)) * 16 + left + (pixel % 6);
      image[place] = (image[place] ?? 0) + (index % 2 === 0 ? 2 : -2);
      labels[place] = index % 2 === 0 ? 10 : 20;
    }
    return { image, labels, height: 16, width: 16, channels: 1, contoured: [10, 20] };
  });
}

function localTraining(changes: Partial<LocalTraining> = {}): LocalTraining {
  return {
    model: unetPrompter.build(config, initialPlainConvUNetWeights(config, 5)),
    loss: unetPrompter.loss,
    slices: phantoms(12),
    labels: LABELS,
    plan: {
      stepsPerRound: 6,
      batchSize: 4,
      learningRate: 3e-3,
      weightDecay: 0.01,
      gradientNormL2Max: 12,
      schedule: "polynomial",
      warmupSteps: 2,
    },
    seed: 9,
    ...changes,
  };
}

function bytesOf(weights: ReadonlyMap<string, Float32Array>): Buffer {
  return Buffer.concat([...weights.values()].map((values) => Buffer.from(values.buffer)));
}

t.test("learning rates rise over the warm-up and fall to nothing", async (t) => {
  const plan = { learningRate: 0.1, warmupSteps: 4, schedule: "cosine" as const };
  const rates = Array.from({ length: 21 }, (_, step) => learningRate(plan, step, 20));
  t.strictSame(rates.slice(0, 4), [0.02, 0.04, 0.06000000000000001, 0.08]);
  t.equal(rates[4], 0.1);
  t.ok(Math.abs((rates[12] ?? 0) - 0.05) < 1e-12, "half way is half the rate");
  t.ok(Math.abs(rates[20] ?? 1) < 1e-12);
  // nnU-Net's PolyLRScheduler: 0.01 * (1 - 500 / 1000) ** 0.9.
  const polynomial = { learningRate: 0.01, warmupSteps: 0, schedule: "polynomial" as const };
  t.ok(Math.abs(learningRate(polynomial, 500, 1000) - 0.005358867312681466) < 1e-15);
  t.equal(learningRate(polynomial, 0, 1000), 0.01);
  t.equal(learningRate(polynomial, 1000, 1000), 0);
});

t.test("AdamW takes PyTorch's steps and spares biases and norms the decay", async (t) => {
  const plan = { ...ADAMW_DEFAULTS, weightDecay: 0.5 };
  let values: ReadonlyMap<string, tf.Tensor> = new Map<string, tf.Tensor>([
    ["w", tf.tensor2d([[1, -2]])],
    ["b", tf.tensor1d([1, -2])],
  ]);
  let state = initialAdamW(values);
  const expected = { w: [1, -2], b: [1, -2], m: [0, 0], v: [0, 0] };
  for (let step = 1; step <= 3; step += 1) {
    const raw = [0.3 * step, -0.1];
    const gradients = new Map<string, tf.Tensor>([
      ["w", tf.tensor2d([raw])],
      ["b", tf.tensor1d(raw)],
    ]);
    ({ values, state } = updateAdamW(plan, state, {
      values,
      gradients,
      learningRate: 0.01,
      gradientScale: 0.5,
    }));
    // torch.optim.AdamW, _single_tensor_adamw, in double precision.
    for (const i of [0, 1]) {
      const g = 0.5 * (raw[i] ?? 0);
      const m = 0.9 * (expected.m[i] ?? 0) + 0.1 * g;
      const v = 0.999 * (expected.v[i] ?? 0) + 0.001 * g * g;
      const change = ((0.01 / (1 - 0.9 ** step)) * m) / (Math.sqrt(v) / Math.sqrt(1 - 0.999 ** step) + 1e-8);
      expected.w[i] = (expected.w[i] ?? 0) * (1 - 0.01 * 0.5) - change;
      expected.b[i] = (expected.b[i] ?? 0) - change;
      expected.m[i] = m;
      expected.v[i] = v;
    }
  }
  for (const name of ["w", "b"] as const) {
    const found = values.get(name)?.dataSync() ?? [];
    t.ok(
      [0, 1].every((i) => Math.abs((found[i] ?? 0) - (expected[name][i] ?? 0)) < 1e-6),
      `${name}: ${found}`,
    );
  }
});

t.test("an optimiser that was stored and read again goes on in the same way", async (t) => {
  const values = new Map<string, tf.Tensor>([["w", tf.tensor2d([[1, -2, 3]])]]);
  const gradients = new Map<string, tf.Tensor>([["w", tf.tensor2d([[0.1, 0.2, -0.3]])]]);
  const plan = { ...ADAMW_DEFAULTS, weightDecay: 0.01 };
  const update = { values, gradients, learningRate: 0.1, gradientScale: 1 };
  const { state } = updateAdamW(plan, initialAdamW(values), update);
  const restored = importAdamW(await exportAdamW(state), values);
  const [next, again] = [state, restored].map((from) =>
    updateAdamW(plan, from, update).values.get("w")?.dataSync(),
  );
  t.strictSame(again, next);
  t.equal(restored.step, 1);
});

t.test("a third of a batch shows an organ, and every slice is drawn before one is drawn again", async (t) => {
  const slices = phantoms(16).map((slice, index) =>
    index < 14 ? { ...slice, labels: new Uint8Array(256) } : slice,
  );
  const sampler = new SliceSampler(slices, new Prng(1));
  for (let batch = 0; batch < 20; batch += 1) {
    const shown = sampler.draw(7).filter(({ labels }) => labels.some((label) => label > 0));
    if (shown.length < 3) t.fail(`batch ${batch} shows ${shown.length}`);
  }
  const plain = new SliceSampler(slices.slice(0, 14), new Prng(1));
  t.equal(
    new Set([...plain.draw(7), ...plain.draw(7)]).size,
    14,
    "a site without organs in its slices trains too",
  );
  t.equal(plain.draw(20).length, 20, "a batch may be larger than the cohort");
  t.throws(() => new SliceSampler([], new Prng(1)), { code: "training.no-slices" });
});

t.test("a batch turns the study's labels into classes and refuses what does not fit", async (t) => {
  const [first, second] = phantoms(2) as [TrainingSlice, TrainingSlice]; // Two were asked for.
  const batch = batchTensors([first, { ...second, contoured: [20] }], LABELS);
  t.strictSame(batch.images.shape, [2, 16, 16, 1]);
  t.strictSame(new Set(batch.target.classes.dataSync()), new Set([0, 1, 2]));
  t.strictSame([...batch.target.drawn.dataSync()], [1, 1, 1, 1, 0, 1]);
  disposeBatch(batch);
  t.throws(() => batchTensors([first, second], [0, 10]), { code: "training.label-unknown" });
  t.throws(() => batchTensors([first, { ...second, width: 8 }], LABELS), { code: "training.slice-size" });
  t.throws(() => batchTensors([first, { ...second, image: new Float32Array(8) }], LABELS), {
    code: "training.slice-size",
  });
});

t.test("a hundred steps leave no tensor behind and the heap as large as it was", async (t) => {
  const model = unetPrompter.build(config, initialPlainConvUNetWeights(config, 5));
  const batch = batchTensors(phantoms(4), LABELS);
  const plan = { ...ADAMW_DEFAULTS, weightDecay: 0.01, gradientNormL2Max: 12 };
  const optimiser = new Optimiser(model.parameters, plan);
  const learner = { model, loss: unetPrompter.loss };
  const measure = () => ({ tensors: tf.memory().numTensors, used: heap.usedBytes, heap: heap.heapBytes });
  await trainStep(learner, batch, optimiser, 1e-3);
  const before = measure();
  for (let step = 0; step < 100; step += 1) await trainStep(learner, batch, optimiser, 1e-3);
  t.strictSame(measure(), before);
  t.equal(optimiser.stepCount, 101);
  optimiser.dispose();
  model.dispose();
  disposeBatch(batch);
});

t.test("the same seed gives the same weights, bit for bit, and another seed others", async (t) => {
  const before = tf.memory().numTensors;
  const runs = [];
  for (const seed of [9, 9, 10]) {
    const training = localTraining({ seed });
    runs.push(await trainLocally(training));
    training.model.dispose();
  }
  const [first, second, third] = runs.map(({ weights }) => bytesOf(weights));
  t.ok(first && second?.equals(first));
  t.notOk(first && third?.equals(first));
  t.strictSame(runs[1]?.losses, runs[0]?.losses);
  t.equal(tf.memory().numTensors, before);
});

t.test("training learns to tell a bright square from a dark one", async (t) => {
  const training = localTraining();
  const steps: number[] = [];
  const plan = { ...training.plan, stepsPerRound: 80, batchSize: 8, learningRate: 1e-2 };
  const augment: LocalTraining["augment"] = (slice, prng) => {
    const shift = prng.uniform(-0.1, 0.1);
    return { ...slice, image: slice.image.map((value) => value + shift) };
  };
  const { losses } = await trainLocally({ ...training, plan, augment, onStep: (step) => steps.push(step) });
  t.ok((losses.at(-1) ?? 1) < -0.5, `loss ${losses[0]?.toFixed(2)} to ${losses.at(-1)?.toFixed(2)}`);
  t.strictSame(
    steps,
    Array.from({ length: 80 }, (_, index) => index + 1),
  );
  training.model.dispose();
});

t.test("a round late in a study moves the weights less than the first one", async (t) => {
  const base = initialPlainConvUNetWeights(config, 5);
  const sizes = [];
  for (const stepsBefore of [0, 54]) {
    const training = localTraining({ schedule: { stepsBefore, stepsInAll: 60 } });
    const { weights } = await trainLocally(training);
    const delta = subtract(weights, base, unetPrompter.trainable(config));
    sizes.push(Math.hypot(...[...delta.values()].map((values) => Math.hypot(...values))));
    training.model.dispose();
  }
  t.ok(
    (sizes[1] ?? 1) < (sizes[0] ?? 0) / 2,
    `moved by ${sizes.map((size) => size.toFixed(3)).join(", then by ")}`,
  );
});

t.test("an abort ends training between two steps and leaves nothing behind", async (t) => {
  const training = localTraining();
  const before = tf.memory().numTensors;
  const abort = new AbortController();
  const reason = new Error("the round was abandoned");
  const onStep = (step: number) => step === 2 && abort.abort(reason);
  await t.rejects(trainLocally({ ...training, onStep, signal: abort.signal }), reason);
  t.equal(tf.memory().numTensors, before);
  training.model.dispose();
});

t.test("training that diverges is an error with a code, and the model keeps its numbers", async (t) => {
  const training = localTraining();
  const [slice] = training.slices as [TrainingSlice]; // There are twelve.
  const broken = { ...slice, image: slice.image.map(() => Number.NaN) };
  const before = bytesOf(await training.model.parameters.export(training.model.parameters.trainableNames));
  await t.rejects(trainLocally({ ...training, slices: [broken] }), { code: "training.diverged" });
  const after = bytesOf(await training.model.parameters.export(training.model.parameters.trainableNames));
  t.ok(after.equals(before));
  training.model.dispose();
});

t.test("a step that does not fit into memory leaves nothing behind, and the next one fits", async (t) => {
  const training = localTraining({ slices: phantoms(4) });
  const measure = () => ({ tensors: tf.memory().numTensors, used: heap.usedBytes });
  const before = measure();
  const normal = heap.budgetBytes;
  for (const room of [60_000, 120_000, 240_000]) {
    heap.budgetBytes = heap.usedBytes + room;
    await t.rejects(trainLocally(training), { code: "backend.out-of-memory" }, `${room} bytes`);
    heap.budgetBytes = normal;
    t.strictSame(measure(), before);
  }
  await t.resolves(trainLocally(training));
  training.model.dispose();
});

t.test(
  "a delta is what training changed, in the manifest's order, and leads back to the trained weights",
  async (t) => {
    const base = initialPlainConvUNetWeights(config, 5);
    const training = localTraining();
    const { weights } = await trainLocally(training);
    const manifest = unetPrompter.trainable(config);
    const delta = subtract(weights, base, manifest);
    t.strictSame(
      [...delta.keys()],
      manifest.map(({ name }) => name),
    );
    for (const [name, values] of delta) {
      const error = (weights.get(name) ?? values).reduce((largest, value, index) => {
        const sum = (base.get(name)?.[index] ?? 0) + (values[index] ?? 0);
        return Math.max(largest, Math.abs(value - sum));
      }, 0);
      if (!(error < 1e-6) || !values.some((value) => value !== 0)) t.fail(`${name}: ${error}`);
    }
    const applied = applyDelta(base, delta, manifest);
    t.strictSame(new Set(applied.keys()), new Set(base.keys()), "the untrained tensors are there too");
    t.strictSame(applied.get("decoder.seg_layers.0.bias"), base.get("decoder.seg_layers.0.bias"));
    t.throws(() => subtract(new Map(), base, manifest), /missing/);
    training.model.dispose();
  },
);

t.test("a recipe names every kernel that its training and prediction call", async (t) => {
  await tf.setBackend("cpu");
  const model = unetPrompter.build(config, initialPlainConvUNetWeights(config, 5));
  const batch = batchTensors(phantoms(1), LABELS);
  const plan = { ...ADAMW_DEFAULTS, weightDecay: 0, gradientNormL2Max: 12 };
  const census = await kernelCensus(async () => {
    const optimiser = new Optimiser(model.parameters, plan);
    await trainStep({ model, loss: unetPrompter.loss }, batch, optimiser, 1e-3);
    optimiser.dispose();
    tf.tidy(() => tf.softmax(model.predict(batch.images)));
  });
  t.strictSame([...unetPrompter.kernels].sort(), census);
  model.dispose();
  disposeBatch(batch);
  await tf.setBackend("wasm");
  t.strictSame(missingKernels(unetPrompter.kernels), [], "and the wasm backend has them all");
  t.throws(() => expectKernels(["Conv2D", "Einsum"]), { code: "backend.kernels-missing", message: /Einsum/ });
});

t.test("a study's recipe is found by name and version, and an unknown one is refused", async (t) => {
  t.equal(findRecipe({ id: "unet-prompter", version: 1 }), unetPrompter);
  t.throws(() => findRecipe({ id: "unet-prompter", version: 2 }), {
    code: "recipe.unknown",
    message: /unet-prompter 1/,
  });
});
