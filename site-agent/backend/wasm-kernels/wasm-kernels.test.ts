import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Prng } from "@consilium/shared/base/prng.ts";
import t from "tap";
import { compileWat, fuseMultiplyAdd } from "../../../test/support/compile-wat.ts";
import { expectFusedLayers } from "../../../test/support/fused-layers.ts";
import { expectSame, numbers, tensor } from "../../../test/support/same-on-cpu.ts";
import { dotProductAttention } from "../../models/nn/attention.ts";
import { addBias } from "../../models/nn/bias.ts";
import { gelu } from "../../models/nn/gelu.ts";
import { layerNorm } from "../../models/nn/layer-norm.ts";
import { initialAdamW, updateAdamW } from "../../training/adamw.ts";
import { composedLoss, diceCrossEntropy } from "../../training/losses.ts";
import { LAYER_NORM_GRADIENT, LAYER_NORM_SCALE_GRADIENT } from "../fused-kernel.ts";
import { loadBackendPackage, tf } from "../tensors.ts";
import { installTrainingKernels } from "./install.ts";
import { convolveTiles } from "./products.ts";
import { instantiateProducts, type TrainingModule } from "./training-module.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
const { heap, fusesMultiplyAdd } = installTrainingKernels();

t.test("every byte that a tensor takes is counted from the first one on", async (t) => {
  const before = heap.usedBytes;
  const given = tf.tensor([1, 2, 3]);
  const computed = tf.mul(given, given);
  t.equal(heap.usedBytes - before, 24);
  tf.dispose([given, computed]);
  t.equal(heap.usedBytes, before);
});

t.test("every binary in the tree is what its text compiles to", async (t) => {
  const folder = fileURLToPath(new URL(".", import.meta.url));
  const texts = readdirSync(folder).filter((name) => name.endsWith(".wat"));
  t.ok(texts.length >= 5);
  for (const name of texts) {
    const committed = readFileSync(`${folder}${name.replace(".wat", ".wasm.ts")}`, "utf8");
    t.ok(committed === (await compileWat(`${folder}${name}`)), name);
  }
  const fused = readFileSync(`${folder}fused-products.wasm.ts`, "utf8");
  t.ok(fused === (await compileWat(`${folder}products.wat`, "fused")), "fused products");
  const text = readFileSync(`${folder}products.wat`, "utf8");
  t.equal(fuseMultiplyAdd(text).split("relaxed_madd").length - 1, 16, "every product of both tiles is fused");
  t.notMatch(fuseMultiplyAdd(text), /f32x4\.mul/);
});

t.test("fused and separate products differ by rounding only", async (t) => {
  const fused = instantiateProducts(heap.memory, "fused");
  if (!fused) {
    t.pass("fused products", { skip: "this version of Node does not compile relaxed SIMD" });
    return;
  }
  const separate = instantiateProducts(heap.memory, "separate");
  const sizes = { input: 4 * 50 * 37, panels: 4 * 37 * 24, bias: 96, output: 4 * 50 * 20, tile: 128 };
  const results = [fused, separate].map((products) =>
    heap.lend(sizes, (at) => {
      const fill = (pointer: number, label: string, count: number) =>
        new Float32Array(heap.memory.buffer, pointer, count).set(numbers(label, count));
      fill(at.input, "input", 50 * 37);
      fill(at.panels, "panels", 37 * 24);
      fill(at.bias, "bias", 24);
      convolveTiles(products as TrainingModule, {
        // It has what this call needs.
        ...{
          ...at,
          images: 1,
          rows: 1,
          pixels: 50,
          columns: 20,
          segments: 1,
          segmentBytes: 0,
          segmentLength: 37,
        },
        from: { imageBytes: 0, rowBytes: 0, pixelBytes: 4 * 37 },
        to: { imageBytes: 0, rowBytes: 0, pixelBytes: 4 * 20 },
      });
      return Float32Array.from(new Float32Array(heap.memory.buffer, at.output, 50 * 20));
    }),
  );
  const [a, b] = results as [Float32Array, Float32Array]; // One for each form.
  const error = a.reduce(
    (largest, value, index) => Math.max(largest, Math.abs(value - (b[index] ?? Number.NaN))),
    0,
  );
  t.ok(error < 5e-6, `largest difference ${error}`);
  if (fusesMultiplyAdd) t.ok(error > 0, "this processor fuses");
});

t.test("GELU, norms and attention are those of composed operations, with their gradients", async (t) => {
  await expectFusedLayers(t);
});

t.test("a gradient that nobody asks for is not computed", async (t) => {
  const [x, gamma, beta] = [tensor("x", [3, 8]), tensor("gamma", [8]), tensor("beta", [8])];
  const norm = (given: tf.Tensor, scale: tf.Tensor): tf.Tensor =>
    layerNorm(given, { gamma: scale as tf.Tensor1D, beta: beta as tf.Tensor1D }, 1e-5); // As above.
  // The framework gives every caller the same profile.
  const called = async (compute: () => tf.Tensor) => [...(await tf.profile(compute)).kernelNames];
  const ofInput = await called(() => tf.grad((given) => norm(given, gamma))(x));
  const ofScale = await called(() => tf.grad((given) => norm(x, given))(gamma));
  t.ok(ofInput.includes(LAYER_NORM_GRADIENT));
  t.notOk(ofInput.includes(LAYER_NORM_SCALE_GRADIENT));
  t.ok(ofScale.includes(LAYER_NORM_SCALE_GRADIENT));
  t.notOk(ofScale.includes(LAYER_NORM_GRADIENT));
});

t.test("attention far from zero is still a distribution", async (t) => {
  const far = tf.tensor3d([1000, -1000, 0, 3], [1, 1, 4]);
  const one = tf.tensor3d([1, 1, 1, 1], [1, 4, 1]);
  const sum = dotProductAttention({
    query: one.slice([0, 0, 0], [1, 1, 1]),
    key: far.reshape([1, 4, 1]),
    value: one,
  });
  t.strictSame([...sum.dataSync()], [1]);
});

t.test("a batch of small products is right in every form, for every rest of a vector", async (t) => {
  for (const [m, k, n] of [
    [4, 24, 16],
    [1, 1, 1],
    [3, 5, 7],
    [16, 24, 64],
    [9, 12, 33],
    [2, 6, 18],
  ] as const) {
    for (const [transposeA, transposeB] of [
      [false, false],
      [false, true],
      [true, false],
      [true, true],
    ] as const) {
      const a = tensor(`a ${m} ${k}`, [5, 2, ...(transposeA ? [k, m] : [m, k])]);
      const b = tensor(`b ${k} ${n}`, [5, 2, ...(transposeB ? [n, k] : [k, n])]);
      const what = `${m} ${k} ${n} ${transposeA} ${transposeB}`;
      await expectSame(t, what, () => [tf.matMul(a, b, transposeA, transposeB)], 1e-6);
    }
  }
  const shared = tensor("shared left", [1, 4, 6]);
  const many = tensor("many right", [7, 6, 5]);
  await expectSame(t, "one left factor for all", () => [tf.matMul(shared, many)], 1e-6);
});

t.test("GELU is right far from zero too", async (t) => {
  const far = tf.tensor1d([-80, -12, -5, -0, 0, 5, 12, 80]);
  const values = [...gelu(far).dataSync()];
  t.ok(values.slice(0, 5).every((value) => Math.abs(value) < 2e-6));
  t.strictSame(values.slice(6), [12, 80]);
});

t.test("pairs are swapped, and blocks repeated, as the framework does", async (t) => {
  for (const count of [1, 2, 3, 8]) {
    const pairs = tensor(`pairs ${count}`, [count, 2]);
    await expectSame(t, `${count} pairs`, () => [tf.reverse(pairs, 1), tf.reverse(pairs, 0)], 0);
  }
  const x = tensor("repeated", [2, 3, 5]);
  for (const reps of [
    [4, 1, 1],
    [1, 3, 1],
    [1, 1, 2],
    [2, 1, 3],
    [1, 1, 1],
  ]) {
    await expectSame(t, `repeated ${reps}`, () => [tf.tile(x, reps)], 0);
  }
});

t.test("a bias and its gradient are right for few and for many channels", async (t) => {
  for (const channels of [1, 2, 3, 4, 7, 16]) {
    await expectSame(t, `${channels} channels`, () => {
      const inputs = [tensor("x", [2, 9, 8, channels]), tensor("bias", [channels])];
      const weights = tensor("dy", [2, 9, 8, channels]);
      const add = (...[x, bias]: tf.Tensor[]) => addBias(x as tf.Tensor4D, bias as tf.Tensor1D); // The shapes above.
      const gradients = tf.grads((...given: tf.Tensor[]) => tf.sum(tf.mul(add(...given), weights)))(inputs);
      return [add(...inputs), ...gradients];
    });
  }
});

t.test("an AdamW step is right for every count of numbers", async (t) => {
  for (const shape of [[1], [2], [3], [4], [7], [5, 13], [0]]) {
    await expectSame(t, `[${shape}]`, () => {
      let values = new Map([["w", tensor("w", shape)]]) as ReadonlyMap<string, tf.Tensor>;
      let state = initialAdamW(values);
      const plan = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1 };
      for (const step of [1, 2, 3]) {
        const gradients = new Map([["w", tensor(`gradient ${step}`, shape)]]);
        const update = { values, gradients, learningRate: 0.01, gradientScale: 0.5 };
        ({ values, state } = updateAdamW(plan, state, update));
      }
      return [values, state.first, state.second].flatMap((tensors) => [...tensors.values()]);
    });
  }
});

t.test("the fused loss and its gradient are those of the composed loss", async (t) => {
  const drawnSets = [
    [1, 1, 1, 1, 1, 1, 1, 1],
    [1, 1, 0, 1, 1, 1, 1, 0],
    [1, 0, 0, 1, 1, 0, 0, 0],
    [1, 0, 0, 0, 1, 0, 0, 0],
  ];
  for (const drawnValues of drawnSets) {
    const prng = Prng.labelled(1, "classes");
    const classValues = Int32Array.from({ length: 2 * 6 * 5 }, () => prng.int(0, 3));
    await expectSame(t, `drawn ${drawnValues}`, () => {
      const logits = tensor("logits", [2, 6, 5, 4], 4) as tf.Tensor4D; // Four axes.
      const classes = tf.tensor3d(classValues, [2, 6, 5], "int32");
      const target = { classes, drawn: tf.tensor2d(drawnValues, [2, 4]) };
      const loss = tf.getBackend() === "wasm" ? diceCrossEntropy : composedLoss;
      const { value, grad } = tf.valueAndGrad((given) => loss(given as tf.Tensor4D, target))(logits); // As above.
      return [value, grad];
    });
  }
});

t.test("a clone shares its numbers and outlives the tensor that it was made of", async (t) => {
  const x = tf.tensor([1, 2, 3]);
  const before = heap.usedBytes;
  const clone = tf.clone(x);
  t.equal(heap.usedBytes, before);
  x.dispose();
  t.strictSame([...clone.dataSync()], [1, 2, 3]);
  clone.dispose();
  t.equal(heap.usedBytes, before - 12);
});

t.test("the kernels leave no bytes behind", async (t) => {
  const before = { bytes: heap.usedBytes, tensors: tf.memory().numTensors };
  tf.tidy(() => {
    const x = tensor("x", [2, 16, 16, 5]) as tf.Tensor4D; // Four axes.
    const w = tensor("w", [3, 3, 5, 7]) as tf.Tensor4D; // As above.
    tf.grads((x, w) => tf.sum(tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, 2, "same")))([x, w]);
    tf.matMul(tf.reshape(x, [32, 80]), tf.reshape(x, [32, 80]), true, false);
  });
  t.strictSame({ bytes: heap.usedBytes, tensors: tf.memory().numTensors }, before);
});
