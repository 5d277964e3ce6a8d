import {
  type PlainConvUNetConfig,
  plainConvUNetParameters,
} from "@consilium/shared/model/plain-conv-unet.ts";
import { initialPlainConvUNetWeights } from "@consilium/shared/model/plain-conv-unet-weights.ts";
import t from "tap";
import { loadBackendPackage, tf } from "../backend/tensors.ts";
import { installTrainingKernels } from "../backend/wasm-kernels/install.ts";
import { Parameters } from "./parameters.ts";
import { segmentSlices } from "./segment-slices.ts";
import { fromLayout, layoutShape, type TensorLayout, toLayout } from "./tensor-layout.ts";
import { PlainConvUNet } from "./unet/plain-conv-unet.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
installTrainingKernels();

const uneven: PlainConvUNetConfig = {
  inputChannels: 3,
  featuresPerStage: [5, 8, 12, 12],
  kernelSizes: [
    [3, 3],
    [1, 3],
    [3, 5],
    [3, 3],
  ],
  strides: [
    [1, 1],
    [1, 2],
    [2, 2],
    [2, 1],
  ],
  convsPerStage: [1, 2, 1, 2],
  convsPerStageDecoder: [2, 1, 1],
  classCount: 4,
  deepSupervision: true,
};

t.test("weights change their order for the tensor library and come back as they were", async (t) => {
  const shapes: Record<TensorLayout, number[]> = {
    plain: [6],
    linear: [2, 3],
    kernel: [2, 3, 1, 2],
    depthwise: [3, 1, 2, 2],
  };
  const expected: Record<TensorLayout, [number[], number[]]> = {
    plain: [[6], [0, 1, 2, 3, 4, 5]],
    linear: [
      [3, 2],
      [0, 3, 1, 4, 2, 5],
    ],
    // Output o, input i, column x of PyTorch lie at 6 o + 2 i + x; here at 6 x + 2 i + o.
    kernel: [
      [1, 2, 3, 2],
      [0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11],
    ],
    depthwise: [
      [2, 2, 3, 1],
      [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11],
    ],
  };
  for (const layout of ["plain", "linear", "kernel", "depthwise"] as const) {
    const shape = shapes[layout];
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, index) => index);
    t.strictSame(layoutShape(shape, layout), expected[layout][0], `${layout}: shape`);
    t.strictSame([...toLayout(values, shape, layout)], expected[layout][1], `${layout}: there`);
    t.strictSame(fromLayout(toLayout(values, shape, layout), shape, layout), values, `${layout}: and back`);
  }
  t.throws(() => layoutShape([2, 3], "kernel"), "a layout is for a number of axes");
});

t.test("parameters refuse weights that are not the model's, all faults at once", async (t) => {
  const specs = plainConvUNetParameters(uneven);
  const plan = { specs, trainable: specs.slice(0, 2), layoutOf: () => "plain" as const };
  const weights = initialPlainConvUNetWeights(uneven, 1);
  const [first, second, third] = specs.map(({ name }) => name);
  const before = tf.memory().numTensors;
  const fewer = new Map([...weights].filter(([name]) => name !== first && name !== third));
  t.throws(() => new Parameters(plan, fewer), {
    code: "weights.missing",
    message: new RegExp(`${first}, ${third}`),
  });
  const other = new Map([...weights, [`${second}`, new Float32Array(2)]]);
  t.throws(() => new Parameters(plan, other), {
    code: "weights.wrong-size",
    message: new RegExp(`${second}`),
  });
  t.equal(tf.memory().numTensors, before, "and leave no tensor behind");
});

t.test("a parameter that is replaced is disposed, and exports what replaced it", async (t) => {
  const model = new PlainConvUNet(uneven, initialPlainConvUNetWeights(uneven, 1));
  const { parameters } = model;
  const before = tf.memory().numTensors;
  const name = "decoder.transpconvs.0.weight";
  const old = parameters.tensor(name);
  parameters.replace(new Map([[name, tf.mul(old, 2)]]));
  t.ok(old.isDisposed);
  t.equal(tf.memory().numTensors, before);
  const exported = (await parameters.export([name])).get(name);
  const doubled = initialPlainConvUNetWeights(uneven, 1)
    .get(name)
    ?.map((value) => value * 2);
  t.ok(exported && doubled && Buffer.from(exported.buffer).equals(Buffer.from(doubled.buffer)));
  t.throws(
    () => parameters.replace(new Map([[name, tf.scalar(1)]])),
    /parameter decoder.transpconvs.0.weight/,
  );
  model.dispose();
});

t.test("a UNet with uneven kernels, strides and channels gives every level its size", async (t) => {
  const model = new PlainConvUNet(uneven, initialPlainConvUNetWeights(uneven, 1));
  const before = tf.memory().numTensors;
  tf.tidy(() => {
    const images = tf.randomUniform<tf.Rank.R4>([2, 8, 12, 3], -1, 1, "float32", 1);
    const levels = model.forward(images);
    t.strictSame(
      levels.map(({ shape }) => shape),
      [
        [2, 8, 12, 4],
        [2, 8, 6, 4],
      ],
      "the lowest of three levels takes no part",
    );
    const full = levels[0]?.dataSync();
    t.strictSame(model.predict(images).dataSync(), full, "prediction is the full resolution");
    t.throws(() => model.forward(tf.zeros([1, 8, 10, 3])), {
      code: "backend.unsupported-shape",
      message: /4 x 4/,
    });
    t.throws(() => model.forward(tf.zeros([1, 8, 12, 1])), /expected shape \[B, H, W, 3\]/);
  });
  t.equal(tf.memory().numTensors, before, "and keeps no tensor");
  model.dispose();
});

t.test("slices are segmented in batches, with probabilities that do not depend on the batch", async (t) => {
  const model = new PlainConvUNet(uneven, initialPlainConvUNetWeights(uneven, 2));
  const stack = { count: 5, height: 4, width: 8, channels: 3 };
  const images = Float32Array.from({ length: 5 * 4 * 8 * 3 }, (_, index) => Math.sin(index));
  const before = tf.memory().numTensors;
  const whole = await segmentSlices(model, images, stack, 5);
  const parts = await segmentSlices(model, images, stack, 2);
  t.equal(tf.memory().numTensors, before);
  t.equal(whole.length, 5 * 4 * 8 * 4);
  t.ok(Buffer.from(whole.buffer).equals(Buffer.from(parts.buffer)), "the same bytes");
  for (let pixel = 0; pixel < whole.length; pixel += 4) {
    const sum = whole.subarray(pixel, pixel + 4).reduce((total, value) => total + value, 0);
    if (Math.abs(sum - 1) > 1e-5) t.fail(`pixel ${pixel / 4}: ${sum}`);
  }
  await t.rejects(segmentSlices(model, images, { ...stack, count: 4 }, 2), /one number for every pixel/);
  model.dispose();
});
