// The operations whose gradients training relies on, each small enough for every backend. A case is a function of
// tensors; what is compared is its value and the gradient of a weighted sum with respect to every input.

import { Prng } from "@consilium/shared/base/prng.ts";
import { tf } from "./tensors.ts";

export type GradientCase = {
  readonly name: string;
  readonly shapes: readonly (readonly number[])[];
  readonly compute: (...inputs: tf.Tensor[]) => tf.Tensor;
  /** tfjs-node has no gradient for padding that is given side by side; the layers do not use it there. */
  readonly paddedBySides: boolean;
};

type T2 = tf.Tensor2D;
type T3 = tf.Tensor3D;
type T4 = tf.Tensor4D;

const cases: GradientCase[] = [];

/** The framework types ranks; the shapes beside each function are these ranks. */
function add<Inputs extends tf.Tensor[]>(
  name: string,
  shapes: readonly (readonly number[])[],
  compute: (...inputs: Inputs) => tf.Tensor,
): void {
  const paddedBySides = / padded by | with uneven padding$/.test(name);
  cases.push({ name, shapes, compute: compute as unknown as GradientCase["compute"], paddedBySides }); // See above.
}

add(
  "matMul",
  [
    [7, 9],
    [9, 5],
  ],
  (a: T2, b: T2) => tf.matMul(a, b),
);
add(
  "matMul with a transposed right factor",
  [
    [7, 9],
    [5, 9],
  ],
  (a: T2, b: T2) => tf.matMul(a, b, false, true),
);
add(
  "matMul with a transposed left factor",
  [
    [9, 7],
    [9, 5],
  ],
  (a: T2, b: T2) => tf.matMul(a, b, true, false),
);
add(
  "matMul with both factors transposed",
  [
    [9, 7],
    [5, 9],
  ],
  (a: T2, b: T2) => tf.matMul(a, b, true, true),
);
add(
  "matMul larger than a cache block",
  [
    [70, 130],
    [130, 24],
  ],
  (a: T2, b: T2) => tf.matMul(a, b),
);
add(
  "batched matMul",
  [
    [2, 3, 7, 9],
    [2, 3, 9, 5],
  ],
  (a: T4, b: T4) => tf.matMul(a, b),
);
add(
  "attention scores",
  [
    [2, 3, 8, 4],
    [2, 3, 6, 4],
  ],
  (q: T4, k: T4) => tf.matMul(q, k, false, true),
);
add(
  "matMul of rows of a batch",
  [
    [2, 3, 7, 9],
    [9, 5],
  ],
  (a: T4, b: T2) => tf.reshape(tf.matMul(tf.reshape(a, [42, 9]), b), [2, 3, 7, 5]),
);
add("fused matMul with bias and ReLU", [[4, 6], [6, 5], [5]], (a: T2, b: T2, bias: tf.Tensor1D) =>
  tf.fused.matMul({ a, b, bias, activation: "relu" }),
);

for (const stride of [1, 2, 3]) {
  for (const [kernel, channels] of [
    [
      [3, 3],
      [4, 6],
    ],
    [
      [1, 1],
      [4, 8],
    ],
    [
      [5, 3],
      [3, 9],
    ],
    [
      [2, 2],
      [1, 3],
    ],
  ] as const) {
    for (const pad of ["same", "valid"] as const) {
      const name = `conv2d ${kernel.join("x")} stride ${stride} ${pad} ${channels.join(" to ")}`;
      add(
        name,
        [
          [2, 9, 7, channels[0]],
          [...kernel, ...channels],
        ],
        (x: T4, w: T4) => tf.conv2d(x, w, stride, pad),
      );
    }
  }
}
const explicit = (
  top: number,
  bottom: number,
  left: number,
  right: number,
): tf.backend_util.ExplicitPadding => [
  [0, 0],
  [top, bottom],
  [left, right],
  [0, 0],
];
add(
  "conv2d 3x3 stride 2 padded by 1",
  [
    [2, 8, 12, 4],
    [3, 3, 4, 8],
  ],
  (x: T4, w: T4) => tf.conv2d(x, w, 2, explicit(1, 1, 1, 1)),
);
add(
  "conv2d 7x7 stride 4 padded by 3",
  [
    [1, 32, 28, 3],
    [7, 7, 3, 8],
  ],
  (x: T4, w: T4) => tf.conv2d(x, w, 4, explicit(3, 3, 3, 3)),
);
add(
  "conv2d 1x3 with uneven padding",
  [
    [2, 5, 6, 4],
    [1, 3, 4, 5],
  ],
  (x: T4, w: T4) => tf.conv2d(x, w, 1, explicit(0, 0, 2, 1)),
);
add(
  "conv1d",
  [
    [2, 9, 4],
    [3, 4, 6],
  ],
  (x: T3, w: T3) => tf.conv1d(x, w, 1, "same"),
);
add("fused conv2d with bias", [[1, 6, 6, 3], [3, 3, 3, 4], [4]], (x: T4, filter: T4, bias: tf.Tensor1D) =>
  tf.fused.conv2d({ x, filter, strides: 1, pad: "same", bias }),
);
add(
  "conv2dTranspose 2x2 stride 2",
  [
    [2, 5, 6, 6],
    [2, 2, 4, 6],
  ],
  (x: T4, w: T4) => tf.conv2dTranspose(x, w, [2, 10, 12, 4], 2, "same"),
);
add(
  "conv2dTranspose 4x4 stride 2",
  [
    [1, 4, 5, 3],
    [4, 4, 9, 3],
  ],
  (x: T4, w: T4) => tf.conv2dTranspose(x, w, [1, 8, 10, 9], 2, "same"),
);
add(
  "conv2dTranspose 1x2 stride 1x2",
  [
    [1, 4, 5, 3],
    [1, 2, 8, 3],
  ],
  (x: T4, w: T4) => tf.conv2dTranspose(x, w, [1, 4, 10, 8], [1, 2], "same"),
);
for (const [kernel, channels] of [
  [[3, 3], 4],
  [[3, 1], 5],
  [[7, 7], 8],
] as const) {
  add(
    `depthwiseConv2d ${kernel.join("x")} of ${channels}`,
    [
      [2, 9, 8, channels],
      [...kernel, channels, 1],
    ],
    (x: T4, w: T4) => tf.depthwiseConv2d(x, w, 1, "same"),
  );
}

add("maxPool 2x2", [[2, 8, 8, 3]], (x: T4) => tf.maxPool(x, 2, 2, "same"));
add("maxPool 3x3 of negative numbers", [[2, 7, 9, 3]], (x: T4) =>
  tf.maxPool(tf.sub(x, 2) as T4, 3, 2, "same"),
); // Rank stays.
add("avgPool 2x2", [[2, 8, 8, 3]], (x: T4) => tf.avgPool(x, 2, 2, "same"));
add("resizeBilinear by 2", [[1, 5, 5, 3]], (x: T4) => tf.image.resizeBilinear(x, [10, 10], false, true));
add("resizeBilinear with aligned corners", [[1, 5, 5, 3]], (x: T4) =>
  tf.image.resizeBilinear(x, [9, 9], true),
);
add("resizeNearestNeighbor by 2", [[1, 5, 5, 3]], (x: T4) => tf.image.resizeNearestNeighbor(x, [10, 10]));

add(
  "layer norm from operations",
  [[6, 16], [16], [16]],
  (x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) => {
    const centred = tf.sub(x, tf.mean(x, -1, true));
    const variance = tf.mean(tf.square(centred), -1, true);
    return tf.add(tf.mul(tf.mul(centred, tf.rsqrt(tf.add(variance, 1e-6))), gamma), beta);
  },
);
add("variance by moments", [[6, 16]], (x: tf.Tensor) => tf.moments(x, -1, true).variance);
add(
  "batch norm with its own moments",
  [[2, 4, 4, 3], [3], [3]],
  (x: T4, gamma: tf.Tensor1D, beta: tf.Tensor1D) => {
    const { mean, variance } = tf.moments(x, [0, 1, 2]);
    return tf.batchNorm(x, mean as tf.Tensor1D, variance as tf.Tensor1D, beta, gamma, 1e-5); // One number a channel.
  },
);
add("group norm from operations", [[2, 4, 4, 8]], (x: tf.Tensor) => {
  const groups = tf.reshape(x, [2, 16, 2, 4]);
  const { mean, variance } = tf.moments(groups, [1, 3], true);
  return tf.reshape(tf.mul(tf.sub(groups, mean), tf.rsqrt(tf.add(variance, 1e-5))), [2, 4, 4, 8]);
});

const unary: Record<string, (x: tf.Tensor) => tf.Tensor> = {
  "erf GELU": (x) => tf.mul(tf.mul(x, 0.5), tf.add(1, tf.erf(tf.mul(x, Math.SQRT1_2)))),
  erf: (x) => tf.erf(x),
  sigmoid: (x) => tf.sigmoid(x),
  softplus: (x) => tf.softplus(x),
  logSigmoid: (x) => tf.logSigmoid(x),
  relu: (x) => tf.relu(x),
  leakyRelu: (x) => tf.leakyRelu(x, 0.01),
  elu: (x) => tf.elu(x),
  silu: (x) => tf.mul(x, tf.sigmoid(x)),
  tanh: (x) => tf.tanh(x),
  exp: (x) => tf.exp(x),
  "log of squares": (x) => tf.log(tf.add(tf.square(x), 1)),
  sqrt: (x) => tf.sqrt(tf.add(tf.square(x), 1)),
  rsqrt: (x) => tf.rsqrt(tf.add(tf.square(x), 1)),
  abs: (x) => tf.abs(x),
  "third power": (x) => tf.pow(x, 3),
  "sine and cosine": (x) => tf.add(tf.sin(x), tf.cos(x)),
  clipByValue: (x) => tf.clipByValue(x, -0.5, 0.5),
};
for (const [name, compute] of Object.entries(unary)) add(name, [[50]], compute);

add("softmax", [[4, 6, 10]], (x: T3) => tf.softmax(x));
add("logSoftmax", [[4, 10]], (x: T2) => tf.logSoftmax(x));
add("logSumExp", [[3, 4]], (x: T2) => tf.logSumExp(x, 1));
add("prelu", [[5, 10], [10]], (x: T2, slope: tf.Tensor) => tf.prelu(x, slope as T2)); // Broadcast by the framework.
add("division with broadcasting", [[5, 10], [10]], (x: tf.Tensor, y: tf.Tensor) =>
  tf.div(x, tf.add(tf.square(y), 1)),
);
add("maximum and minimum", [[50], [50]], (x: tf.Tensor, y: tf.Tensor) =>
  tf.add(tf.maximum(x, y), tf.mul(2, tf.minimum(x, y))),
);
add("squaredDifference", [[50], [50]], (x: tf.Tensor, y: tf.Tensor) => tf.squaredDifference(x, y));
add("sum over axes", [[3, 4, 5]], (x: tf.Tensor) => tf.sum(x, [0, 2]));
add("mean over an axis", [[3, 4, 5]], (x: tf.Tensor) => tf.mean(x, 1));
add("max over an axis", [[3, 4, 5]], (x: tf.Tensor) => tf.max(x, 1));
add("min over an axis", [[3, 4, 5]], (x: tf.Tensor) => tf.min(x, 1));
add("prod over an axis", [[3, 4]], (x: tf.Tensor) => tf.prod(x, 1));
add("sigmoid cross-entropy", [[20]], (x: tf.Tensor) =>
  tf.losses.sigmoidCrossEntropy(tf.ones([20]), x, undefined, undefined, tf.Reduction.NONE),
);
add("softmax cross-entropy", [[5, 4]], (x: tf.Tensor) =>
  tf.losses.softmaxCrossEntropy(oneHot([0, 1, 2, 3, 0], 4), x, undefined, undefined, tf.Reduction.NONE),
);

add("gather of rows", [[6, 4]], (x: tf.Tensor) => tf.gather(x, tf.tensor1d([0, 2, 2, 5], "int32")));
add("gather of columns", [[3, 6, 4]], (x: tf.Tensor) => tf.gather(x, tf.tensor1d([0, 2, 2, 5], "int32"), 1));
add("one-hot rows", [[6, 4]], (x: T2) => tf.matMul(oneHot([1, 3], 6) as T2, x)); // Two rows of six.
add(
  "concat of columns",
  [
    [3, 4],
    [3, 2],
  ],
  (x: T2, y: T2) => tf.concat([x, y], 1),
);
add(
  "concat of channels",
  [
    [2, 3, 4, 3],
    [2, 3, 4, 5],
  ],
  (x: T4, y: T4) => tf.concat([x, y], 3),
);
add(
  "stack and unstack",
  [
    [3, 4],
    [3, 4],
  ],
  (x: T2, y: T2) => tf.add(tf.unstack(tf.stack([x, y], 1), 1)[0] ?? x, tf.sum(tf.stack([x, y], 0), 0)),
);
add("split", [[3, 6]], (x: T2) => tf.split(x, 3, 1)[1] ?? x);
add("slice", [[3, 6]], (x: T2) => tf.slice(x, [1, 2], [2, 3]));
add("reverse", [[3, 6]], (x: T2) => tf.reverse(x, 1));
add("pad", [[3, 6]], (x: T2) =>
  tf.pad(x, [
    [1, 2],
    [0, 3],
  ]),
);
add("mirrorPad", [[3, 6]], (x: T2) =>
  tf.mirrorPad(
    x,
    [
      [1, 1],
      [1, 1],
    ],
    "reflect",
  ),
);
add("tile", [[3, 6]], (x: T2) => tf.tile(x, [2, 3]));
add("broadcastTo", [[1, 6]], (x: T2) => tf.broadcastTo(x, [4, 6]));
add("window partition", [[1, 8, 8, 3]], (x: T4) =>
  tf.transpose(tf.reshape(x, [1, 2, 4, 2, 4, 3]), [0, 1, 3, 2, 4, 5]),
);
add("cumsum", [[3, 6]], (x: T2) => tf.cumsum(x, 1));
add(
  "where with a constant condition",
  [
    [3, 6],
    [3, 6],
  ],
  (x: T2, y: T2) =>
    tf.where(tf.tensor([1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 1], [3, 6], "bool"), x, y),
);
add("spaceToBatchND", [[1, 4, 4, 2]], (x: T4) =>
  tf.spaceToBatchND(
    x,
    [2, 2],
    [
      [0, 0],
      [0, 0],
    ],
  ),
);
add("localResponseNormalization", [[1, 4, 4, 6]], (x: T4) => tf.localResponseNormalization(x));

export const GRADIENT_CASES: readonly GradientCase[] = cases;

function oneHot(labels: readonly number[], depth: number): tf.Tensor {
  return tf.oneHot(tf.tensor1d([...labels], "int32"), depth);
}

/** The value and the gradients of one case on the running backend, with inputs drawn from the case's name. */
export async function computeCase({ name, shapes, compute }: GradientCase): Promise<Float32Array[]> {
  const prng = Prng.labelled(1, name);
  const numbers = (count: number) => Float32Array.from({ length: count }, () => prng.uniform(-1, 1));
  const results = tf.tidy(() => {
    const inputs = shapes.map((shape) => tf.tensor(numbers(tf.util.sizeFromShape([...shape])), [...shape]));
    const value = compute(...inputs);
    const weights = tf.tensor(numbers(value.size), value.shape);
    const gradients = tf.grads((...given: tf.Tensor[]) => tf.sum(tf.mul(compute(...given), weights)))(inputs);
    return [value, ...gradients];
  });
  try {
    return (await Promise.all(results.map((tensor) => tensor.data()))) as Float32Array[]; // Every case is float32.
  } finally {
    tf.dispose(results);
  }
}
