import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { compile, isShared } from "@consilium/shared/base/web-assembly.ts";
import t from "tap";
import { type Layer, withGradients } from "../../../test/support/fused-layers.ts";
import { numbersOf, tensor } from "../../../test/support/same-on-cpu.ts";
import { dotProductAttention } from "../../models/nn/attention.ts";
import { addBias } from "../../models/nn/bias.ts";
import { gelu } from "../../models/nn/gelu.ts";
import { instanceNorm } from "../../models/nn/instance-norm.ts";
import { layerNorm } from "../../models/nn/layer-norm.ts";
import { initialAdamW, updateAdamW } from "../../training/adamw.ts";
import { loadBackendPackage, tf } from "../tensors.ts";
import { installTrainingKernels, startedWithSharedMemory, startKernelThreads } from "./install.ts";
import { withSharedMemory } from "./shared-memory.ts";
import { instantiateTrainingModule } from "./training-module.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await startedWithSharedMemory(async () => void (await tf.setBackend("wasm")));
const { heap, context } = installTrainingKernels();
const alone = instantiateTrainingModule(heap.memory).module;
// Everything is parted, however small.
const threads = await startKernelThreads(3, 0);
const together = context.module;
t.teardown(() => threads.stop());

/** What a computation gives on one thread and on three. */
function onBoth(compute: () => tf.Tensor[]): [Float32Array[], Float32Array[]] {
  const numbersOn = (module: typeof alone): Float32Array[] => {
    context.module = module;
    return numbersOf(compute);
  };
  try {
    return [numbersOn(alone), numbersOn(together)];
  } finally {
    context.module = together;
  }
}

type Case = {
  readonly name: string;
  readonly of: Layer;
  readonly shapes: number[][];
};

const product = (transposeA: boolean, transposeB: boolean, ...shapes: number[][]): Case => ({
  name: `product of [${shapes[0]}] and [${shapes[1]}]`,
  of: (a, b) => tf.matMul(a as tf.Tensor, b as tf.Tensor, transposeA, transposeB),
  shapes,
});
const convolution = (shapes: number[][], stride: number): Case => ({
  name: `convolution of [${shapes[0]}] by [${shapes[1]}], stride ${stride}`,
  of: (x, w) => tf.conv2d(x as tf.Tensor4D, w as tf.Tensor4D, stride, "same"), // Four axes each.
  shapes,
});
const norm = (gamma: tf.Tensor | undefined, beta: tf.Tensor | undefined) => ({
  gamma: gamma as tf.Tensor1D, // As below.
  beta: beta as tf.Tensor1D, // As below.
});
const layers: Case[] = [
  product(false, false, [37, 19], [19, 26]),
  product(false, false, [2, 130], [130, 45]),
  product(true, false, [70, 21], [70, 13]),
  product(false, true, [33, 24], [17, 24]),
  product(false, false, [5, 7, 12], [5, 12, 9]),
  product(false, true, [5, 7, 12], [5, 9, 12]),
  product(true, false, [7, 90, 60], [7, 90, 33]),
  convolution(
    [
      [2, 9, 7, 5],
      [3, 3, 5, 12],
    ],
    1,
  ),
  convolution(
    [
      [1, 12, 10, 4],
      [3, 3, 4, 9],
    ],
    2,
  ),
  convolution(
    [
      [5, 4, 4, 8],
      [1, 1, 8, 16],
    ],
    1,
  ),
  {
    name: "depthwise convolution",
    of: (x, w) => tf.depthwiseConv2d(x as tf.Tensor4D, w as tf.Tensor4D, 1, "same"), // Four axes each.
    shapes: [
      [2, 7, 9, 8],
      [3, 3, 8, 1],
    ],
  },
  { name: "GELU", of: (x) => gelu(x as tf.Tensor), shapes: [[7, 11]] },
  {
    name: "layer norm",
    of: (x, g, b) => layerNorm(x as tf.Tensor, norm(g, b), 1e-5),
    shapes: [[201, 12], [12], [12]],
  },
  {
    name: "instance norm",
    of: (x, g, b) => instanceNorm(x as tf.Tensor4D, norm(g, b), { epsilon: 1e-5, negativeSlope: 0.01 }), // Four axes.
    shapes: [[4, 5, 6, 7], [7], [7]],
  },
  { name: "bias", of: (x, b) => addBias(x as tf.Tensor4D, b as tf.Tensor1D), shapes: [[3, 5, 2, 6], [6]] }, // So many axes.
  {
    name: "attention",
    of: (query, key, value) =>
      dotProductAttention({ query, key, value } as Parameters<typeof dotProductAttention>[0]), // As below.
    shapes: [
      [3, 17, 8],
      [3, 29, 8],
      [3, 29, 8],
    ],
  },
];

t.test("three threads compute what one does, to the last bit", (t) => {
  t.ok(isShared(heap.memory));
  for (const { name, of, shapes } of layers) {
    const inputs = (): tf.Tensor[] => shapes.map((shape, index) => tensor(`${name} ${index}`, shape, 2));
    const [one, three] = onBoth(() => withGradients(of, inputs()));
    t.strictSame(three, one, name);
    t.ok(
      one.every((values) => values.some((value) => value !== 0)),
      `${name} is not nothing`,
    );
  }
  const [one, three] = onBoth(() => {
    const values = new Map([["w", tensor("w", [53])]]);
    const plan = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1 };
    const update = {
      values,
      gradients: new Map([["w", tensor("g", [53])]]),
      learningRate: 0.1,
      gradientScale: 0.5,
    };
    const { values: moved, state } = updateAdamW(plan, initialAdamW(values), update);
    return [moved, state.first, state.second].flatMap((tensors) => [...tensors.values()]);
  });
  t.strictSame(three, one, "AdamW");
  t.end();
});

t.test("forty thousand parts in a row are waited for, each of them", (t) => {
  const [from, to] = [heap.reserve(4096), heap.reserve(4096)];
  const parts = [0, 1, 2].map((part) => [from + 1024 * part, to + 1024 * part, 4 + 60 * (part % 2)]);
  t.doesNotThrow(() => {
    for (let call = 0; call < 20_000; call += 1) threads.run("gelu", alone.gelu, parts);
  });
  t.end();
});

t.test("the memory grows while threads use it", (t) => {
  const before = heap.heapBytes;
  const [one, three] = onBoth(() => {
    const large = tf.ones([24, 1024, 1024]);
    return [
      tf.slice(gelu(large), [23, 0, 0], [1, 2, 8]),
      tf.matMul(tensor("a", [64, 40]), tensor("b", [40, 64])),
    ];
  });
  t.ok(heap.heapBytes > before);
  t.strictSame(three, one);
  t.end();
});

t.test("a part that fails is an error with a code, and the next call works", (t) => {
  const outside = heap.heapBytes - 64;
  const parts = [0, outside].map((start) => [start, heap.reserve(1024), start === 0 ? 16 : 4096]);
  t.throws(() => threads.run("gelu", alone.gelu, parts), { code: "backend.thread-failed", message: /gelu/ });
  const [one, three] = onBoth(() => [gelu(tensor("x", [100]))]);
  t.strictSame(three, one);
  t.throws(
    () =>
      threads.run(
        "no such kernel",
        alone.gelu,
        [
          [0, 0, 4],
          [0, 0, 4],
        ].map((part) => [...part]),
      ),
    {
      code: "backend.thread-failed",
    },
  );
  t.end();
});

t.test("a binary gets a memory to share, and bytes that are none are refused", (t) => {
  const path = createRequire(import.meta.url).resolve(
    "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm",
  );
  const binary = readFileSync(path);
  const shared = withSharedMemory(binary);
  t.doesNotThrow(() => compile(shared));
  t.strictSame(withSharedMemory(shared), shared, "which is only done once");
  for (const length of [9, 10, 100, 300, 900, 2000])
    t.throws(() => withSharedMemory(binary.subarray(0, length)), RangeError);
  const strange = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
  t.throws(() => withSharedMemory(Uint8Array.from([...strange, 2, 4, 1, 0, 0, 9])), TypeError);
  t.throws(
    () => withSharedMemory(Uint8Array.from([...strange, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
    RangeError,
  );
  t.end();
});
