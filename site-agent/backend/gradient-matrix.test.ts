import t, { type Test } from "tap";
import { computeCase, GRADIENT_CASES, type GradientCase } from "./gradient-cases.ts";
import { loadBackendPackage, tf } from "./tensors.ts";
import { installTrainingKernels } from "./wasm-kernels/install.ts";

/** Of the largest number of a tensor. The cpu backend is the reference: it agrees with TensorFlow on these cases. */
const VALUE_TOLERANCE = 2e-4;
const GRADIENT_TOLERANCE = 1e-3;

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");

async function computedOn(backend: string, cases: readonly GradientCase[]): Promise<Float32Array[][]> {
  await tf.setBackend(backend);
  return cases.map(computeCase);
}

function relativeError(found: Float32Array, expected: Float32Array): number {
  if (found.length !== expected.length) return Number.POSITIVE_INFINITY;
  const largest = expected.reduce((max, value) => Math.max(max, Math.abs(value)), 1e-12);
  const errors = found.map((value, index) => Math.abs(value - (expected[index] ?? 0)));
  return errors.reduce((max, error) => (error > max || Number.isNaN(error) ? error : max), 0) / largest;
}

function compare(
  t: Test,
  cases: readonly GradientCase[],
  found: readonly Float32Array[][],
  expected: readonly Float32Array[][],
): void {
  cases.forEach(({ name }, index) => {
    const errors = (found[index] ?? []).map((values, part) => {
      const tolerance = part === 0 ? VALUE_TOLERANCE : GRADIENT_TOLERANCE;
      return relativeError(values, expected[index]?.[part] ?? new Float32Array()) / tolerance;
    });
    t.ok(
      errors.length > 1 && errors.every((error) => error <= 1),
      `${name}: ${errors.map((error) => error.toExponential(1)).join(", ")} of the tolerance`,
    );
  });
}

const reference = await computedOn("cpu", GRADIENT_CASES);

t.test("the stock wasm backend lacks gradients or computes wrong ones", async (t) => {
  // The reason why our kernels exist, and the proof that this comparison can fail.
  await tf.setBackend("wasm");
  const lacking = GRADIENT_CASES.filter((gradientCase, index) => {
    try {
      const errors = computeCase(gradientCase).map((values, part) =>
        relativeError(values, reference[index]?.[part] ?? new Float32Array()),
      );
      return errors.some((error) => !(error <= GRADIENT_TOLERANCE));
    } catch {
      return true;
    }
  }).map(({ name }) => name);
  for (const name of ["conv2d 3x3 stride 1 same 4 to 6", "depthwiseConv2d 3x3 of 4", "gather of rows"]) {
    t.ok(lacking.includes(name), name);
  }
  t.ok(lacking.includes("maxPool 3x3 of negative numbers"), "a wrong gradient without an error");
  t.notOk(lacking.includes("matMul"), "other gradients are right");
});

t.test("the wasm backend with our kernels computes every case as the cpu backend does", async (t) => {
  await tf.setBackend("wasm");
  installTrainingKernels();
  compare(t, GRADIENT_CASES, await computedOn("wasm", GRADIENT_CASES), reference);
});

t.test("what the stock wasm backend computes wrongly and nobody needs is refused", async (t) => {
  await tf.setBackend("wasm");
  const x = tf.zeros<tf.Rank.R5>([1, 2, 2, 2, 1]);
  const wide = tf.zeros<tf.Rank.R4>([1, 2, 6, 1]);
  const row = tf.zeros<tf.Rank.R4>([1, 3, 1, 1]);
  t.throws(() => tf.conv2d(wide, row, 1, 0), { code: "backend.unsupported-shape" });
  t.throws(() => tf.maxPool3d(x, 2, 2, "same"), /MaxPool3D/);
  const filter = tf.zeros<tf.Rank.R5>([1, 1, 1, 1, 1]);
  t.throws(
    () => tf.grad((input) => tf.conv3d(input as tf.Tensor5D, filter, 1, "same"))(x),
    /Conv3DBackpropInputV2/,
  );
  tf.dispose([x, filter, wide, row]);
});

t.test("TensorFlow itself computes every case as the cpu backend does", async (t) => {
  try {
    await loadBackendPackage("@tensorflow/tfjs-node");
  } catch {
    t.pass("TensorFlow", { skip: "@tensorflow/tfjs-node is not installed here" });
    return;
  }
  const able = GRADIENT_CASES.filter(({ paddedBySides }) => !paddedBySides);
  t.comment(`left out: ${GRADIENT_CASES.length - able.length} cases of padding side by side`);
  const expected = reference.filter((_, index) => !GRADIENT_CASES[index]?.paddedBySides);
  compare(t, able, await computedOn("tensorflow", able), expected);
});
