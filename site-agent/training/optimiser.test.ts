// The optimiser on any backend, and as graphs where there are any.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import type { ParameterSpec } from "@consilium/shared/model/parameter-manifest.ts";
import t from "tap";
import type { CompileWarning } from "../backend/graph/compile-step.ts";
import { startBackend } from "../backend/start-backend.ts";
import { tf } from "../backend/tensors.ts";
import { Parameters } from "../models/parameters.ts";
import type { Differentiated, TrainedParameters } from "../recipes/recipe.ts";
import { ADAMW_DEFAULTS } from "./adamw.ts";
import { GradientSum } from "./gradient-sum.ts";
import { JoinedTensors } from "./joined-tensors.ts";
import { Optimiser } from "./optimiser.ts";

const native = await startBackend("tfjs-node").then(
  () => true,
  () => false,
);
const skip = native ? false : "@tensorflow/tfjs-node is not installed here";
await startBackend("wasm");

const SPECS: readonly ParameterSpec[] = [
  { name: "a.weight", shape: [3, 5], dtype: "F32" },
  { name: "a.bias", shape: [3], dtype: "F32" },
  { name: "b.weight", shape: [2, 2, 3], dtype: "F32" },
];
const NAMES = SPECS.map(({ name }) => name);
const PLAN = { ...ADAMW_DEFAULTS, weightDecay: 0.1, gradientNormL2Max: 1 };
const LEARNING_RATE = 0.1;
const SHARES = new Map([["b.weight", 0.5]]);
const [WEIGHTS_SEED, GRADIENTS_SEED, STEPS] = [1, 2, 12];

function drawn(prng: Prng): Map<string, Float32Array> {
  return new Map(
    SPECS.map(({ name, shape }) => {
      const count = tf.util.sizeFromShape(shape);
      return [name, Float32Array.from({ length: count }, () => prng.normal())];
    }),
  );
}

function opened(): { parameters: Parameters; trained: TrainedParameters } {
  const parameters = new Parameters(
    { specs: SPECS, trainable: SPECS, layoutOf: () => "plain" },
    drawn(new Prng(WEIGHTS_SEED)),
  );
  return { parameters, trained: Object.assign(parameters, { learningRateShares: SHARES }) };
}

function differentiated(prng: Prng, loss = 1): Differentiated {
  const numbers = drawn(prng);
  const grads = SPECS.map(({ name, shape }) => tf.tensor(expectDefined(numbers.get(name), name), shape));
  return { value: tf.scalar(loss), grads };
}

/** Weights after steps whose rates and gradients differ. */
async function trained() {
  const { parameters, trained: held } = opened();
  const prng = new Prng(GRADIENTS_SEED);
  const warnings: CompileWarning[] = [];
  const optimiser = new Optimiser(held, PLAN, (warning) => void warnings.push(warning));
  const norms = [];
  for (let step = 1; step <= STEPS; step += 1) {
    const { gradientNormL2 } = await optimiser.step(differentiated(prng), LEARNING_RATE / step);
    norms.push(gradientNormL2);
  }
  const weights = await parameters.export(NAMES);
  optimiser.dispose();
  parameters.dispose();
  return { weights, norms, warnings };
}

/** torch.optim.AdamW with clip_grad_norm_, in double precision. */
function expected(): Map<string, number[]> {
  const numbers = (prng: Prng) =>
    new Map([...drawn(prng)].map(([name, of]): [string, number[]] => [name, [...of]]));
  const [values, prng] = [numbers(new Prng(WEIGHTS_SEED)), new Prng(GRADIENTS_SEED)];
  const moments = new Map([...values].map(([name, of]) => [name, of.map(() => ({ m: 0, v: 0 }))]));
  for (let step = 1; step <= STEPS; step += 1) {
    const gradients = numbers(prng);
    const norm = Math.sqrt([...gradients.values()].flat().reduce((sum, g) => sum + g * g, 0));
    for (const [name, of] of gradients) {
      const rate = (LEARNING_RATE / step) * (SHARES.get(name) ?? 1);
      const kept = name.endsWith("bias") ? 1 : 1 - rate * PLAN.weightDecay;
      const [value, known] = [expectDefined(values.get(name), name), expectDefined(moments.get(name), name)];
      of.forEach((raw, index) => {
        const moment = expectDefined(known[index], "a moment");
        const g = raw * Math.min(1, PLAN.gradientNormL2Max / (norm + 1e-6));
        moment.m = 0.9 * moment.m + 0.1 * g;
        moment.v = 0.999 * moment.v + 0.001 * g * g;
        const deviation = Math.sqrt(moment.v) / Math.sqrt(1 - 0.999 ** step) + 1e-8;
        value[index] = (value[index] ?? 0) * kept - ((rate / (1 - 0.9 ** step)) * moment.m) / deviation;
      });
    }
  }
  return values;
}

function largestDifference(found: ReadonlyMap<string, Float32Array>): number {
  const differences = [...expected()].flatMap(([name, of]) =>
    of.map((value, index) => Math.abs(value - (found.get(name)?.[index] ?? Number.NaN))),
  );
  return Math.max(...differences);
}

t.test("clipped steps are PyTorch's, also at a share of the rate", async (t) => {
  for (const backend of ["wasm", "cpu"]) {
    await tf.setBackend(backend);
    const before = tf.memory().numTensors;
    const { weights, norms } = await trained();
    t.equal(tf.memory().numTensors, before, "no tensor is left");
    t.ok(largestDifference(weights) < 3e-6, `${backend} differs by ${largestDifference(weights)}`);
    t.ok(Math.min(...norms) > PLAN.gradientNormL2Max, "and each was clipped");
  }
});

t.test("as graphs they are the same", { skip }, async (t) => {
  await tf.setBackend("tensorflow");
  const before = tf.memory().numTensors;
  const { weights, warnings } = await trained();
  t.strictSame(warnings, [], "every form was recorded and gave what eager execution gave");
  t.equal(tf.memory().numTensors, before, "no tensor is left");
  t.ok(largestDifference(weights) < 3e-6, `differs by ${largestDifference(weights)}`);
});

t.test("what is no number changes nothing", async (t) => {
  for (const backend of native ? ["wasm", "tensorflow"] : ["wasm"]) {
    await tf.setBackend(backend);
    const before = tf.memory().numTensors;
    const { parameters, trained: held } = opened();
    const optimiser = new Optimiser(held, PLAN);
    const start = await parameters.export(NAMES);
    const broken = SPECS.map(({ shape }, index) => tf.fill([...shape], index === 1 ? Number.NaN : 1));
    for (const given of [
      differentiated(new Prng(GRADIENTS_SEED), Number.POSITIVE_INFINITY),
      { value: tf.scalar(1), grads: broken },
    ])
      await t.rejects(optimiser.step(given, LEARNING_RATE), { code: "training.diverged" });
    t.strictSame(await parameters.export(NAMES), start, backend);
    t.equal(optimiser.stepCount, 0);
    optimiser.dispose();
    parameters.dispose();
    t.equal(tf.memory().numTensors, before, "no tensor is left");
  }
});

t.test("small tensors of a kind are one, and are parted again", (t) => {
  const large = tf.zeros([257, 256]);
  const tensors = [
    tf.tensor2d([[1, 2, 3]]),
    tf.tensor1d([4]),
    large,
    tf.tensor4d([[[[5], [6]]]]),
    tf.scalar(7),
  ];
  const joined = new JoinedTensors(tensors, ({ rank }) => (rank > 1 ? "matrix" : "vector"));
  t.strictSame(
    joined.groups.map(({ key, shape }) => [key, shape]),
    [
      ["matrix", [5, 1]],
      ["vector", [2]],
      ["matrix, 2", [257, 256]],
    ],
  );
  const found = joined.join(tensors);
  t.strictSame([...(found.get("matrix")?.dataSync() ?? [])], [1, 2, 3, 5, 6]);
  t.strictSame([...(found.get("vector")?.dataSync() ?? [])], [4, 7]);
  t.equal(found.get("matrix, 2"), large, "a large one is not copied");
  const parts = joined.part(found);
  t.strictSame(
    parts.map(({ shape }) => shape),
    tensors.map(({ shape }) => shape),
  );
  t.strictSame(
    parts.map((part) => [...part.dataSync()]),
    tensors.map((tensor) => [...tensor.dataSync()]),
  );
  t.end();
});

t.test("gradients that are summed are handed over once", (t) => {
  const before = tf.memory().numTensors;
  const tensors = [tf.tensor1d([0, 0]), tf.tensor1d([0])];
  const sums = [1, 0.5].map((factor) => {
    const sum = new GradientSum(tensors);
    sum.add([tf.tensor1d([2, 4]), undefined], tf.scalar(6));
    sum.add([tf.tensor1d([1, 1]), undefined], tf.scalar(2));
    return sum.finish(factor);
  });
  const [whole, half] = sums.map(({ value, grads }) =>
    [value, ...grads].map((tensor) => [...tensor.dataSync()]),
  );
  t.strictSame(whole, [[8], [3, 5], [0]]);
  t.strictSame(half, [[4], [1.5, 2.5], [0]]);
  tf.dispose([tensors, sums.flatMap(({ value, grads }) => [value, ...grads])]);
  t.equal(tf.memory().numTensors, before);
  t.end();
});
