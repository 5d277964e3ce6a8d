// Does the running backend compute gradients rightly? Five small cases with whole numbers, so that their results are
// exact in every precision a device may use, against numbers stored here. It finds stock kernels that are missing or
// wrong before they spoil a model.

import { tf } from "./tensors.ts";

/** Of the largest stored number of a case. */
const TOLERANCE = 1e-3;

export type SelfTestResult = {
  readonly passed: boolean;
  /** What failed, empty when all passed: the case's name, and the error where computing it threw. */
  readonly failures: string[];
};

type SelfTestCase = {
  readonly name: string;
  readonly compute: () => tf.Tensor;
  readonly expected: readonly number[];
};

// The stored numbers were computed in plain integer arithmetic, outside any tensor library.
const CASES: readonly SelfTestCase[] = [
  {
    name: "matMul",
    compute: () => tf.matMul(whole([2, 3], 1) as tf.Tensor2D, whole([3, 2], 2) as tf.Tensor2D), // Two axes each.
    expected: [2, -3, -49, -29],
  },
  {
    name: "filter gradient of conv2d",
    compute: () => {
      const x = whole([1, 4, 4, 2], 3) as tf.Tensor4D; // Four axes.
      const gradient = tf.grad((w) =>
        tf.sum(tf.mul(tf.conv2d(x, w as tf.Tensor4D, 1, "same"), whole([1, 4, 4, 1], 4))),
      );
      return gradient(whole([3, 3, 2, 1], 5));
    },
    expected: [3, 27, 70, -3, -31, -26, -28, 83, 42, 54, 54, 47, 12, 3, -41, -15, 68, 13],
  },
  {
    name: "input gradient of a strided conv2d",
    compute: () => {
      const w = whole([3, 3, 1, 2], 6) as tf.Tensor4D; // Four axes.
      const gradient = tf.grad((x) =>
        tf.sum(tf.mul(tf.conv2d(x as tf.Tensor4D, w, 2, "valid"), whole([1, 2, 2, 2], 7))),
      );
      return gradient(whole([1, 5, 5, 1], 8));
    },
    expected: [
      -17, -4, 35, -14, -5, -10, -18, 16, 5, 17, -22, 26, 36, 5, -1, 0, 0, -14, 0, -18, 0, 0, -2, 4, -11,
    ],
  },
  {
    name: "gradient of maxPool over negative numbers",
    compute: () => {
      const gradient = tf.grad((x) =>
        tf.sum(tf.mul(tf.maxPool(x as tf.Tensor4D, 2, 2, "valid"), whole([1, 2, 2, 1], 9))),
      );
      // Each number once: of equal ones TensorFlow gives the gradient to the first and WebGPU to the last.
      const each = Array.from({ length: 16 }, (_, index) => ((7 * index + 3) % 16) - 40);
      return gradient(tf.tensor4d(each, [1, 4, 4, 1]));
    },
    expected: [0, 0, 0, 0, -4, 0, -5, 0, 0, 0, 0, 0, 0, -3, 0, 2],
  },
  {
    name: "conv2dTranspose",
    compute: () => {
      const [x, w] = [whole([1, 2, 2, 2], 11) as tf.Tensor4D, whole([2, 2, 1, 2], 12) as tf.Tensor4D]; // Four axes.
      return tf.conv2dTranspose(x, w, [1, 4, 4, 1], 2, "valid");
    },
    expected: [-5, -30, -1, -9, 0, 30, -9, 21, 2, 8, 4, 21, -12, 8, -9, -9],
  },
];

/** Run the cases on the backend that is running. It throws nothing and leaves no tensor. */
export async function runSelfTest(): Promise<SelfTestResult> {
  const failures: string[] = [];
  for (const { name, compute, expected } of CASES) {
    try {
      const found = await computed(compute);
      const largest = Math.max(...expected.map(Math.abs));
      const matches = expected.every(
        (value, index) => Math.abs((found[index] ?? Number.NaN) - value) <= TOLERANCE * largest,
      );
      if (!matches || found.length !== expected.length) failures.push(name);
    } catch (error) {
      failures.push(`${name}: ${error instanceof Error ? error.message : "failed"}`);
    }
  }
  return { passed: failures.length === 0, failures };
}

async function computed(compute: () => tf.Tensor): Promise<Float32Array> {
  const tensor = tf.tidy(compute);
  try {
    return (await tensor.data()) as Float32Array; // Every case is float32.
  } finally {
    tensor.dispose();
  }
}

/** Whole numbers from -5 to 5 without a pattern that a transposition would keep. */
function whole(shape: readonly number[], seed: number): tf.Tensor {
  const count = shape.reduce((product, size) => product * size, 1);
  const values = Float32Array.from(
    { length: count },
    (_, index) => ((index * index * 7 + index * 3 + seed * 5) % 11) - 5,
  );
  return tf.tensor(values, [...shape]);
}
