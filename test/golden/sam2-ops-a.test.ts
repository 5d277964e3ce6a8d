import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { HieraBlockSpec } from "@consilium/shared/model/sam2-trunk.ts";
import t from "tap";
import { loadBackendPackage, tf } from "../../site-agent/backend/tensors.ts";
import { installTrainingKernels } from "../../site-agent/backend/wasm-kernels/install.ts";
import { dotProductAttention } from "../../site-agent/models/nn/attention.ts";
import { gelu } from "../../site-agent/models/nn/gelu.ts";
import { type Interpolation, resizeMaps } from "../../site-agent/models/nn/interpolate.ts";
import { layerNorm } from "../../site-agent/models/nn/layer-norm.ts";
import { ModelPart } from "../../site-agent/models/nn/model-part.ts";
import { rotaryTable, rotate } from "../../site-agent/models/nn/rotary-positions.ts";
import { sineImagePositions, sineTimePositions } from "../../site-agent/models/nn/sine-positions.ts";
import { joinWindows, partitionWindows } from "../../site-agent/models/nn/windows.ts";
import { hieraBlock } from "../../site-agent/models/sam2/hiera-block.ts";
import { fuserBlock } from "../../site-agent/models/sam2/memory-encoder.ts";
import { sam2Layout } from "../../site-agent/models/sam2/sam2-layout.ts";
import {
  fromLayout,
  layoutShape,
  type TensorLayout,
  toLayout,
} from "../../site-agent/models/tensor-layout.ts";
import { compareGradient, compareOutput, type Verdict } from "./compare.ts";
import { type Golden, type GoldenTensor, goldenTensor, missingGolden, readGolden } from "./golden.ts";
import { hashValues } from "./hash-values.ts";

// Single operations and modules of the official SAM 2 code; the folder's README says how they were made.
const NAME = "ops-a";
const skip = missingGolden(NAME);

/** PyTorch's images become NHWC; what a block takes is NHWC in the golden already. */
type Order = "image" | "as it is";
type Tensors = Readonly<Record<string, tf.Tensor>>;
type Operation = {
  readonly inputs: readonly string[];
  readonly order: Order;
  readonly compute: (inputs: Tensors) => tf.Tensor;
};

/** A tensor that the case holds, with the rank that the operation takes. */
function given<Rank extends tf.Rank>(tensors: Tensors, name: string): tf.Tensor<Rank> {
  return expectDefined(tensors[name], name) as tf.Tensor<Rank>; // The shapes are those of the golden.
}

const resized = (size: [number, number], kind: Interpolation): Operation => ({
  inputs: ["x"],
  order: "as it is",
  compute: (tensors) => {
    const x = given<tf.Rank.R4>(tensors, "x");
    const [batch, channels, height, width] = x.shape;
    const maps: tf.Tensor3D = tf.reshape(x, [batch * channels, height, width]);
    return tf.reshape(resizeMaps(maps, size, kind), [batch, channels, ...size]);
  },
});

const normalised = (epsilon: number, names: [string, string], order: Order, gain = 1): Operation => ({
  inputs: ["x", ...names],
  order,
  compute: (tensors) => {
    const [gamma, beta] = names.map((name) => given<tf.Rank.R1>(tensors, name));
    return layerNorm(
      tf.mul(given(tensors, "x"), gain),
      { gamma: gamma as tf.Tensor1D, beta: beta as tf.Tensor1D },
      epsilon,
    ); // Two names.
  },
});

/** Three axes are enough for an attention: batch and heads are groups. */
const grouped = (x: tf.Tensor4D): tf.Tensor3D => {
  const [batch, heads, length, channels] = x.shape;
  return tf.reshape(x, [batch * heads, length, channels]);
};

/** Within an operation the reference multiplies its input, so that curves and epsilons matter. */
const GAIN = { gelu: 4, layerNorm: 0.01, attention: 3 };

const OPERATIONS: Readonly<Record<string, Operation>> = {
  gelu: {
    inputs: ["x"],
    order: "as it is",
    compute: (tensors) => gelu(tf.mul(given(tensors, "x"), GAIN.gelu)),
  },
  layer_norm_1e6: normalised(1e-6, ["w", "b"], "as it is", GAIN.layerNorm),
  layer_norm_1e5: normalised(1e-5, ["w", "b"], "as it is", GAIN.layerNorm),
  layernorm2d: normalised(1e-6, ["weight", "bias"], "image"),
  sdpa: {
    inputs: ["q", "k", "v"],
    order: "as it is",
    compute: (tensors) => {
      const [query, key, value] = (["q", "k", "v"] as const).map((name) => {
        const heads = grouped(given(tensors, name));
        return name === "v" ? heads : tf.mul(heads, GAIN.attention);
      });
      const inputs = { query, key, value } as Record<"query" | "key" | "value", tf.Tensor3D>; // Three names.
      return tf.reshape(dotProductAttention(inputs), [2, 2, 9, 8]);
    },
  },
  bicubic_up: resized([32, 32], "bicubic"),
  bicubic_mixed: resized([20, 9], "bicubic"),
  bilinear_up4: resized([32, 24], "bilinear"),
  bilinear_frac: resized([13, 21], "bilinear"),
  bilinear_antialias_down4: resized([8, 6], "bilinear-antialias"),
  bilinear_antialias_frac: resized([11, 9], "bilinear-antialias"),
  bilinear_antialias_up: resized([40, 30], "bilinear-antialias"),
};

function enter({ shape, values }: GoldenTensor, order: Order): tf.Tensor {
  const tensor = tf.tensor(Float32Array.from(values), [...shape]);
  return order === "image" && shape.length === 4 ? tf.transpose(tensor, [0, 2, 3, 1]) : tensor;
}

function leave(tensor: tf.Tensor, order: Order): ArrayLike<number> {
  return (order === "image" && tensor.rank === 4 ? tf.transpose(tensor, [0, 3, 1, 2]) : tensor).dataSync();
}

function compareOperation(golden: Golden, name: string, { inputs, order, compute }: Operation): Verdict[] {
  return tf.tidy(() => {
    const tensors = inputs.map((input) => enter(goldenTensor(golden.inputs, `${name}/${input}`), order));
    const named = (list: readonly tf.Tensor[]): Tensors =>
      Object.fromEntries(inputs.map((input, index) => [input, expectDefined(list[index], input)]));
    const value = compute(named(tensors));
    const { shape } = goldenTensor(golden.outputs, `${name}/y`);
    const probe = enter({ shape, values: hashValues(`dy:${name}`, value.size) }, order);
    const gradients = tf.grads((...list: tf.Tensor[]) => tf.sum(tf.mul(compute(named(list)), probe)))(
      tensors,
    );
    return [
      compareOutput(golden, `${name}/y`, leave(value, order)),
      ...inputs.map((input, index) =>
        compareGradient(golden, `${name}/${input}`, leave(expectDefined(gradients[index], input), order)),
      ),
    ];
  });
}

const block = (window: number, change: Partial<HieraBlockSpec> = {}): HieraBlockSpec => ({
  ...{ index: 0, inChannels: 8, outChannels: 8, headCount: 2, window, pools: false, endsStage: false },
  ...change,
});
const pooling = { outChannels: 16, headCount: 4, pools: true };
const BLOCKS: Readonly<Record<string, HieraBlockSpec>> = {
  hiera_block_plain: block(4),
  hiera_block_pad: block(5),
  hiera_block_pool: block(4, pooling),
  hiera_block_pool_pad: block(6, pooling),
  hiera_block_global: block(0),
};

type Module = { readonly order: Order; readonly compute: (x: tf.Tensor4D, part: ModelPart) => tf.Tensor };
const MODULES: Readonly<Record<string, Module>> = {
  ...Object.fromEntries(
    Object.entries(BLOCKS).map(([name, spec]): [string, Module] => [
      name,
      { order: "as it is", compute: (x, part) => hieraBlock(x, spec, part) },
    ]),
  ),
  cxblock: {
    order: "image",
    compute: (x, part) =>
      fuserBlock(x, { layerCount: 1, kernelSize: 7, depthwise: true, layerScale: true }, part),
  },
};

/** Every tensor with a gradient; the case holds weights among its inputs, under a shorter name of the block. */
function moduleWeights({ inputs, gradients }: Golden, name: string) {
  const names = [...gradients.keys()].flatMap((key) =>
    key.startsWith(`grad/${name}/`) && key !== `grad/${name}/x` ? [key.slice(`grad/${name}/`.length)] : [],
  );
  return names.map((weight) => {
    const { shape, values } = goldenTensor(inputs, `${name.replace("hiera_", "")}/weights/${weight}`);
    const layout: TensorLayout = sam2Layout({ name: `${name}.${weight}`, shape: [...shape], dtype: "F32" });
    const ordered = toLayout(Float32Array.from(values), shape, layout);
    return { weight, shape, layout, tensor: tf.tensor(ordered, layoutShape(shape, layout)) };
  });
}

function compareModule(golden: Golden, name: string, { order, compute }: Module): Verdict[] {
  return tf.tidy(() => {
    const weights = moduleWeights(golden, name);
    const x = enter(goldenTensor(golden.inputs, `${name}/x`), order);
    const part = (list: readonly tf.Tensor[]) => {
      const tensors = new Map(
        weights.map(({ weight }, index) => [weight, expectDefined(list[index], weight)]),
      );
      const tensor = <Rank extends tf.Rank>(key: string) =>
        expectDefined(tensors.get(key), key) as tf.Tensor<Rank>; // Its own.
      return new ModelPart({ tensor });
    };
    const run = (...[first, ...list]: tf.Tensor[]) => compute(first as tf.Tensor4D, part(list)); // An image.
    const all = [x, ...weights.map(({ tensor }) => tensor)];
    const value = run(...all);
    const { shape } = goldenTensor(golden.outputs, `${name}/y`);
    const probe = enter({ shape, values: hashValues(`dy:${name}`, value.size) }, order);
    const [dx, ...gradients] = tf.grads((...list: tf.Tensor[]) => tf.sum(tf.mul(run(...list), probe)))(all);
    return [
      compareOutput(golden, `${name}/y`, leave(value, order)),
      compareGradient(golden, `${name}/x`, leave(expectDefined(dx, "x"), order)),
      ...weights.map(({ weight, shape: own, layout }, index) => {
        const values = expectDefined(gradients[index], weight).dataSync() as Float32Array; // All are float32.
        return compareGradient(golden, `${name}/${weight}`, fromLayout(values, own, layout));
      }),
    ];
  });
}

async function start(backend: string): Promise<void> {
  if (backend === "wasm") await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
  await tf.setBackend(backend);
  if (backend === "wasm") installTrainingKernels();
}

for (const backend of ["cpu", "wasm"]) {
  t.test(`values and gradients of SAM 2's operations are PyTorch's on ${backend}`, { skip }, async (t) => {
    await start(backend);
    const golden = readGolden(NAME);
    for (const [name, operation] of Object.entries(OPERATIONS))
      for (const { accepted, text } of compareOperation(golden, name, operation)) t.ok(accepted, text);
    for (const [name, module] of Object.entries(MODULES))
      for (const { accepted, text } of compareModule(golden, name, module)) t.ok(accepted, text);
  });
}

t.test("positions in space and time are the official ones", { skip }, async (t) => {
  await start("cpu");
  const golden = readGolden(NAME);
  for (const [height, width, channels] of [
    [8, 8, 32],
    [5, 9, 64],
    [16, 16, 256],
  ] as const) {
    const name = `sine_pe/d${channels}_${height}x${width}`;
    const values = sineImagePositions({ height, width, channels, temperature: 10_000 });
    const found = leave(tf.tensor4d(values, [1, height, width, channels]), "image");
    const { accepted, text } = compareOutput(golden, name, found);
    t.ok(accepted, text);
  }
  // A published value of the time encoding: position 3 of 15 in 256 channels.
  const time = sineTimePositions([3 / 15], 256);
  const places = [0, 1, 2, 127, 128, 129, 255];
  const expected = [0.198669, 0.198669, 0.172328, 0.000023, 0.980067, 0.980067, 1];
  places.forEach((place, index) => {
    t.ok(Math.abs((time[place] ?? 0) - (expected[index] ?? 0)) < 1e-6, `time encoding, channel ${place}`);
  });
});

t.test("rotary positions turn queries, and keys of two frames by the same angles", { skip }, async (t) => {
  await start("wasm");
  const golden = readGolden(NAME);
  const grid = { columns: 5, rows: 5, channels: 16, theta: 10_000 };
  for (const name of ["q", "k"]) {
    const heads = grouped(enter(goldenTensor(golden.inputs, `rope/${name}`), "as it is") as tf.Tensor4D); // As stored.
    const turned = rotate(heads, rotaryTable(grid));
    const { accepted, text } = compareOutput(golden, `rope/${name}_out`, turned.dataSync());
    t.ok(accepted, text);
  }
});

t.test("windows come apart and together as in the official code", { skip }, async (t) => {
  await start("wasm");
  const golden = readGolden(NAME);
  const image = tf.tensor4d(
    Float32Array.from(goldenTensor(golden.inputs, "window14/x").values),
    [2, 10, 9, 4],
  );
  const windows = partitionWindows(image, 7);
  t.ok(compareOutput(golden, "window7/windows", windows.dataSync()).accepted);
  t.ok(compareOutput(golden, "window7/back", joinWindows(windows, 2, [10, 9]).dataSync()).accepted);
  t.throws(
    () => joinWindows(windows, 2, [15, 9]),
    /no 8 windows/,
    "another size has another number of windows",
  );
});

t.test("the tanh form of GELU and another epsilon are noticed", { skip }, async (t) => {
  await start("wasm");
  const golden = readGolden(NAME);
  const tanh = (x: tf.Tensor) => {
    const inner = tf.mul(tf.add(x, tf.mul(tf.pow(x, 3), 0.044715)), Math.sqrt(2 / Math.PI));
    return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
  };
  const wrong: Record<string, Operation> = {
    gelu: { inputs: ["x"], order: "as it is", compute: (tensors) => tanh(given(tensors, "x")) },
    layer_norm_1e5: normalised(1e-3, ["w", "b"], "as it is", GAIN.layerNorm),
    bicubic_up: resized([32, 32], "bilinear"),
    bilinear_antialias_down4: resized([8, 6], "bilinear"),
  };
  for (const [name, operation] of Object.entries(wrong))
    t.notOk(compareOperation(golden, name, operation)[0]?.accepted, name);
});
