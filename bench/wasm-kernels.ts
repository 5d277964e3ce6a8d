// What each of our wasm kernels gains over the stock backend, on shapes that the models have: values, and values with
// their gradients, of the parts of models that call them. Both run in processes of their own within one run; a kernel
// that stock lacks is named. Prints JSON.
// npm run bench -- wasm-kernels

import { cpus } from "node:os";
import { Prng } from "@consilium/shared/base/prng.ts";
import { loadBackendPackage, tf } from "../site-agent/backend/tensors.ts";
import { installTrainingKernels } from "../site-agent/backend/wasm-kernels/install.ts";
import { depthwiseConv2d } from "../site-agent/models/adapters/depthwise-conv.ts";
import { dotProductAttention } from "../site-agent/models/nn/attention.ts";
import { biasedConv2d } from "../site-agent/models/nn/biased-conv2d.ts";
import { gelu } from "../site-agent/models/nn/gelu.ts";
import { instanceNorm } from "../site-agent/models/nn/instance-norm.ts";
import { layerNorm } from "../site-agent/models/nn/layer-norm.ts";
import { linear } from "../site-agent/models/nn/linear.ts";
import { answerOfChild } from "./steps/answer-of-child.ts";

type Case = {
  readonly name: string;
  /** Of the inputs; every one of them is differentiated. */
  readonly shapes: readonly (readonly number[])[];
  readonly compute: (...inputs: tf.Tensor[]) => tf.Tensor;
};

type Inputs<Ranks extends readonly tf.Rank[]> = { [Index in keyof Ranks]: tf.Tensor<Ranks[Index]> };

/** A case whose function has inputs of known rank, as its shapes say. */
function on<const Ranks extends readonly tf.Rank[]>(
  name: string,
  shapes: readonly (readonly number[])[],
  compute: (...inputs: Inputs<Ranks>) => tf.Tensor,
): Case {
  return { name, shapes, compute: (...inputs) => compute(...(inputs as Inputs<Ranks>)) }; // As said above.
}

const EPSILON = 1e-6;
const CASES: readonly Case[] = [
  on<[tf.Rank.R2, tf.Rank.R2]>(
    "product of matrices, 1024",
    [
      [1024, 1024],
      [1024, 1024],
    ],
    (a, b) => tf.matMul(a, b),
  ),
  on<[tf.Rank.R2, tf.Rank.R2]>(
    "product of matrices, 4096 x 24 and 24 x 96",
    [
      [4096, 24],
      [24, 96],
    ],
    (a, b) => tf.matMul(a, b),
  ),
  on<[tf.Rank.R3, tf.Rank.R3]>(
    "products of 512 small matrices",
    [
      [512, 16, 24],
      [512, 24, 64],
    ],
    (a, b) => tf.matMul(a, b),
  ),
  on<[tf.Rank.R4, tf.Rank.R2, tf.Rank.R1]>(
    "linear layer, 4 x 32 x 32 x 48 to 192",
    [[4, 32, 32, 48], [48, 192], [192]],
    (x, weight, bias) => linear(x, { weight, bias }),
  ),
  on<[tf.Rank.R3, tf.Rank.R3, tf.Rank.R3]>(
    "attention, 256 queries to 1820 keys of 96 channels",
    [
      [2, 256, 96],
      [2, 1820, 96],
      [2, 1820, 96],
    ],
    (query, key, value) => dotProductAttention({ query, key, value }),
  ),
  on<[tf.Rank.R4]>("GELU, 4 x 32 x 32 x 192", [[4, 32, 32, 192]], (x) => gelu(x)),
  on<[tf.Rank.R4, tf.Rank.R1, tf.Rank.R1]>(
    "layer norm, 4 x 64 x 64 x 24",
    [[4, 64, 64, 24], [24], [24]],
    (x, gamma, beta) => layerNorm(x, { gamma, beta }, EPSILON),
  ),
  on<[tf.Rank.R4, tf.Rank.R1, tf.Rank.R1]>(
    "instance norm, 8 x 64 x 64 x 32",
    [[8, 64, 64, 32], [32], [32]],
    (x, gamma, beta) => instanceNorm(x, { gamma, beta }, { epsilon: 1e-5, negativeSlope: 0.01 }),
  ),
  on<[tf.Rank.R4, tf.Rank.R4, tf.Rank.R1]>(
    "convolution 3 x 3, 8 x 64 x 64 x 32 to 32",
    [[8, 64, 64, 32], [3, 3, 32, 32], [32]],
    (x, weight, bias) => biasedConv2d(x, { weight, bias }, { padding: 1 }),
  ),
  on<[tf.Rank.R4, tf.Rank.R4, tf.Rank.R1]>(
    "convolution 3 x 3 by steps of two, 8 x 64 x 64 x 32 to 64",
    [[8, 64, 64, 32], [3, 3, 32, 64], [64]],
    (x, weight, bias) => biasedConv2d(x, { weight, bias }, { stride: 2, padding: 1 }),
  ),
  on<[tf.Rank.R4, tf.Rank.R4, tf.Rank.R1]>(
    "depthwise convolution 3 x 3, 4 x 32 x 32 x 48",
    [[4, 32, 32, 48], [3, 3, 48, 1], [48]],
    (x, weight, bias) => depthwiseConv2d(x, { weight, bias }),
  ),
  on<[tf.Rank.R4, tf.Rank.R4, tf.Rank.R1]>(
    "depthwise convolution 7 x 7, 7 x 12 x 12 x 96",
    [[7, 12, 12, 96], [7, 7, 96, 1], [96]],
    (x, weight, bias) => depthwiseConv2d(x, { weight, bias }),
  ),
  on<[tf.Rank.R4]>("maximum of 2 x 2, 4 x 64 x 64 x 48", [[4, 64, 64, 48]], (x) =>
    tf.maxPool(x, 2, 2, "valid"),
  ),
];

const VARIANTS = ["stock", "ours"] as const;
type Variant = (typeof VARIANTS)[number];
type Row = { readonly value: number | string; readonly gradient: number | string };

/** Engines compile what is called often, and what interrupts a short call must not be its median. */
const WARM_UP = { milliseconds: 20, calls: 2 };
const RUN = { milliseconds: 100, calls: 9 };
const CALLS_MAX = 999;

async function measure(variant: Variant): Promise<Row[]> {
  await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
  await tf.setBackend("wasm");
  if (variant === "ours") installTrainingKernels();
  return CASES.map(({ name, shapes, compute }) => {
    const prng = Prng.labelled(1, name);
    const inputs = shapes.map((shape) => {
      const count = shape.reduce((product, size) => product * size, 1);
      return tf.tensor(
        Float32Array.from({ length: count }, () => prng.normal()),
        [...shape],
      );
    });
    const value = timed(() => [compute(...inputs)]);
    const both = timed(() => tf.grads((...given: tf.Tensor[]) => tf.sum(compute(...given)))(inputs));
    tf.dispose(inputs);
    return { value, gradient: both };
  });
}

/** Median milliseconds of the processor, or why there are none. */
function timed(run: () => tf.Tensor[]): number | string {
  const once = (): number => {
    const before = process.cpuUsage();
    tf.dispose(run());
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1e3;
  };
  try {
    repeated(once, WARM_UP);
    const times = repeated(once, RUN).sort((a, b) => a - b);
    return times[Math.floor(times.length / 2)] ?? Number.NaN;
  } catch (error) {
    return error instanceof Error ? (error.message.split("\n")[0] ?? "failed") : "failed";
  }
}

/** What each call took, of at least so many that took so long together. */
function repeated(once: () => number, { milliseconds, calls }: typeof RUN): number[] {
  const times: number[] = [];
  for (let passed = 0; (passed < milliseconds || times.length < calls) && times.length < CALLS_MAX; ) {
    const time = once();
    times.push(time);
    passed += time;
  }
  return times;
}

async function measureInChild(variant: Variant): Promise<Row[]> {
  const rows = await answerOfChild(import.meta.url, [variant]);
  if (rows === undefined) throw new Error(`${variant} ended`);
  return rows as Row[]; // What the child sends below.
}

function beside(stock: number | string, ours: number | string): object {
  const isBoth = typeof stock === "number" && typeof ours === "number";
  return { stock: rounded(stock), ours: rounded(ours), ...(isBoth && { gain: rounded(stock / ours) }) };
}

function rounded(value: number | string): number | string {
  return typeof value === "number" ? Number(value.toPrecision(3)) : value;
}

const asked = VARIANTS.find((variant) => variant === process.argv[2]);
if (process.send && asked) {
  process.send(await measure(asked));
  process.disconnect();
} else {
  const [stock, ours] = [await measureInChild("stock"), await measureInChild("ours")];
  const rows = CASES.map(({ name }, index) => ({
    name,
    value: beside(stock[index]?.value ?? "none", ours[index]?.value ?? "none"),
    gradient: beside(stock[index]?.gradient ?? "none", ours[index]?.gradient ?? "none"),
  }));
  const machine = { processor: cpus()[0]?.model, processors: cpus().length, node: process.version };
  console.log(JSON.stringify({ machine, unit: "processor milliseconds", rows }, undefined, 2));
}
