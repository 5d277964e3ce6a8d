import t, { type Test } from "tap";
import { loadBackendPackage, tf } from "../../site-agent/backend/tensors.ts";
import { installTrainingKernels } from "../../site-agent/backend/wasm-kernels/install.ts";
import { addBias } from "../../site-agent/models/nn/bias.ts";
import { convTranspose2d } from "../../site-agent/models/nn/conv-transpose2d.ts";
import { conv2d } from "../../site-agent/models/nn/conv2d.ts";
import { instanceNorm } from "../../site-agent/models/nn/instance-norm.ts";
import {
  fromLayout,
  layoutShape,
  type TensorLayout,
  toLayout,
} from "../../site-agent/models/tensor-layout.ts";
import { compareGradient, compareOutput, type Verdict } from "./compare.ts";
import { type Golden, type GoldenTensor, goldenTensor, missingGolden, readGolden } from "./golden.ts";
import { hashValues } from "./hash-values.ts";

// Single operations of PyTorch; the folder's README says how they were made.
const NAME = "ops-a";
const skip = missingGolden(NAME);

/** How a golden tensor enters and leaves an operation: as an image, as a weight, or as it is. */
type Form = "image" | TensorLayout;
type Operation = {
  readonly inputs: Readonly<Record<string, Form>>;
  readonly output: Form;
  readonly compute: (inputs: Record<string, tf.Tensor>) => tf.Tensor;
};

type T1 = tf.Tensor1D;
type T4 = tf.Tensor4D;
const explicit = (padding: number): tf.backend_util.ExplicitPadding => [
  [0, 0],
  [padding, padding],
  [padding, padding],
  [0, 0],
];

/** The operations that this project's models use. The assertions of rank are the shapes of the golden. */
const OPERATIONS: Readonly<Record<string, Operation>> = {
  conv3s2p1: {
    inputs: { x: "image", w: "kernel", b: "plain" },
    output: "image",
    compute: ({ x, w, b }) => addBias(conv2d(x as T4, { weight: w as T4, stride: [2, 2] }), b as T1),
  },
  conv7s4p3: {
    inputs: { x: "image", w: "kernel", b: "plain" },
    output: "image",
    compute: ({ x, w, b }) => addBias(conv2d(x as T4, { weight: w as T4, stride: [4, 4] }), b as T1),
  },
  conv4s4: {
    inputs: { x: "image", w: "kernel" },
    output: "image",
    compute: ({ x, w }) => tf.conv2d(x as T4, w as T4, 4, "valid"),
  },
  dwconv7: {
    inputs: { x: "image", w: "depthwise", b: "plain" },
    output: "image",
    compute: ({ x, w, b }) => addBias(tf.depthwiseConv2d(x as T4, w as T4, 1, "same"), b as T1),
  },
  convT2s2: {
    inputs: { x: "image", w: "kernel", b: "plain" },
    output: "image",
    compute: ({ x, w, b }) => convTranspose2d(x as T4, { weight: w as T4, bias: b as T1 }),
  },
  convT4s2p1: {
    inputs: { x: "image", w: "kernel" },
    output: "image",
    compute: ({ x, w }) => tf.conv2dTranspose(x as T4, w as T4, [2, 10, 14, 4], 2, explicit(1)),
  },
  maxpool2: {
    inputs: { x: "image" },
    output: "image",
    compute: ({ x }) => tf.maxPool(x as T4, 2, 2, "valid"),
  },
  maxpool2_odd: {
    inputs: { x: "image" },
    output: "image",
    compute: ({ x }) => tf.maxPool(x as T4, 2, 2, "valid"),
  },
  instance_norm2d: {
    inputs: { x: "image", w: "plain", b: "plain" },
    output: "image",
    compute: ({ x, w, b }) =>
      instanceNorm(x as T4, { gamma: w as T1, beta: b as T1 }, { epsilon: 1e-5, negativeSlope: 1 }),
  },
  leaky_relu: {
    inputs: { x: "plain" },
    output: "plain",
    compute: ({ x }) => tf.leakyRelu(x as tf.Tensor, 0.01),
  },
  // The reference sharpens its inputs by 8 within the operation.
  softmax: {
    inputs: { x: "plain" },
    output: "plain",
    compute: ({ x }) => tf.softmax(tf.mul(x as tf.Tensor, 8)),
  },
  nearest_up2: {
    inputs: { x: "image" },
    output: "image",
    compute: ({ x }) => tf.image.resizeNearestNeighbor(x as T4, [10, 12]),
  },
};

/** Parts of models that this project does not have yet: no claim is made about them. */
const NOT_COVERED = [
  "conv3d",
  "conv3d_133",
  "convT3d",
  "gelu",
  "layer_norm_1e6",
  "layer_norm_1e5",
  "instance_norm3d",
  "sdpa",
  "bicubic_up",
  "bicubic_mixed",
  // The framework exchanges height and width in the gradient of resizeBilinear: it is right for squares only.
  "bilinear_up4",
  "bilinear_frac",
  "bilinear_antialias_down4",
  "bilinear_antialias_frac",
  "bilinear_antialias_up",
  "linear1d",
  "bce_logits",
  "cross_entropy",
  "layernorm2d",
  "window7",
  "sine_pe",
  "random_pe",
  "sine_1d",
  "rope",
  "hiera_block_plain",
  "hiera_block_pad",
  "hiera_block_pool",
  "hiera_block_pool_pad",
  "hiera_block_global",
  "cxblock",
];

/** PyTorch's axes of an image in this project's order, and back. */
const IMAGE_ORDER = [0, 2, 3, 1];
const TORCH_ORDER = [0, 3, 1, 2];

function enter({ shape, values }: GoldenTensor, form: Form): tf.Tensor {
  const floats = Float32Array.from(values);
  if (form === "image") return tf.transpose(tf.tensor(floats, [...shape]), IMAGE_ORDER);
  return tf.tensor(toLayout(floats, shape, form), layoutShape(shape, form));
}

/** The numbers in PyTorch's order, where the tensor has PyTorch's shape `shape`. */
function leave(tensor: tf.Tensor, shape: readonly number[], form: Form): Float32Array {
  const ordered = form === "image" ? tf.transpose(tensor, TORCH_ORDER) : tensor;
  const values = ordered.dataSync() as Float32Array; // Every operation is float32.
  return form === "image" ? values : fromLayout(values, shape, form);
}

function compareOperation(golden: Golden, name: string, { inputs, output, compute }: Operation): Verdict[] {
  return tf.tidy(() => {
    const entries = Object.entries(inputs).map(
      ([key, form]) => [key, form, goldenTensor(golden.inputs, `${name}/${key}`)] as const,
    );
    const tensors = entries.map(([, form, given]) => enter(given, form));
    const named = (given: tf.Tensor[]) =>
      Object.fromEntries(entries.map(([key], index) => [key, given[index] as tf.Tensor])); // One each.
    const { shape } = goldenTensor(golden.outputs, `${name}/y`);
    const value = compute(named(tensors));
    const weights = enter({ shape, values: hashValues(`dy:${name}`, value.size) }, output);
    const gradients = tf.grads((...given: tf.Tensor[]) => tf.sum(tf.mul(compute(named(given)), weights)))(
      tensors,
    );
    return [
      compareOutput(golden, `${name}/y`, leave(value, shape, output)),
      ...entries.map(
        ([key, form, given], index) =>
          compareGradient(golden, `${name}/${key}`, leave(gradients[index] as tf.Tensor, given.shape, form)), // One each.
      ),
    ];
  });
}

function compareAll(t: Test, golden: Golden): void {
  for (const [name, operation] of Object.entries(OPERATIONS)) {
    for (const { accepted, text } of compareOperation(golden, name, operation)) t.ok(accepted, text);
  }
}

t.test("the probe numbers are those of the goldens", { skip }, async (t) => {
  // "inputs are hash_v('op:'+case/name) * gain"; the softmax case has gain 2.
  const { inputs } = readGolden(NAME);
  const { values } = goldenTensor(inputs, "leaky_relu/x");
  t.strictSame(Float32Array.from(values), hashValues("op:leaky_relu/x", values.length));
});

t.test("every case is either compared or listed as not covered", { skip }, async (t) => {
  const golden = readGolden(NAME);
  const cases = new Set([...golden.outputs.keys()].map((name) => name.split("/")[0]));
  t.strictSame(new Set([...Object.keys(OPERATIONS), ...NOT_COVERED]), cases);
  t.comment(`not covered: ${NOT_COVERED.join(", ")}`);
});

for (const backend of ["cpu", "wasm"]) {
  t.test(`values and gradients are PyTorch's on ${backend}`, { skip }, async (t) => {
    if (backend === "wasm") await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
    await tf.setBackend(backend);
    if (backend === "wasm") installTrainingKernels();
    compareAll(t, readGolden(NAME));
  });
}

t.test("another padding is noticed", { skip }, async (t) => {
  const { inputs, output } = OPERATIONS["conv3s2p1"] ?? { inputs: {}, output: "image" };
  const compute: Operation["compute"] = ({ x, w, b }) =>
    addBias(tf.conv2d(x as T4, w as T4, 2, "same"), b as T1); // As above.
  const verdicts = compareOperation(readGolden(NAME), "conv3s2p1", { inputs, output, compute });
  t.ok(
    verdicts.some(({ accepted }) => !accepted),
    "an even width puts the border on the other side",
  );
});
