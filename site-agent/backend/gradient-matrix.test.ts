import t from "tap";
import {
  compareGradients,
  computedOn,
  GRADIENT_TOLERANCE,
  relativeError,
} from "../../test/support/gradient-comparison.ts";
import { computeCase, GRADIENT_CASES } from "./gradient-cases.ts";
import { loadBackendPackage, tf } from "./tensors.ts";
import { installTrainingKernels } from "./wasm-kernels/install.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");

const reference = await computedOn("cpu", GRADIENT_CASES);

t.test("the stock wasm backend lacks gradients or computes wrong ones", async (t) => {
  // The reason why our kernels exist, and the proof that this comparison can fail.
  await tf.setBackend("wasm");
  const lacking: string[] = [];
  for (const [index, gradientCase] of GRADIENT_CASES.entries()) {
    const results = await computeCase(gradientCase).catch(() => null);
    const errors = results?.map((values, part) =>
      relativeError(values, reference[index]?.[part] ?? new Float32Array()),
    );
    if (!errors?.every((error) => error <= GRADIENT_TOLERANCE)) lacking.push(gradientCase.name);
  }
  for (const name of ["conv2d 3x3 stride 1 same 4 to 6", "depthwiseConv2d 3x3 of 4", "gather of rows"]) {
    t.ok(lacking.includes(name), name);
  }
  t.ok(lacking.includes("maxPool 3x3 of negative numbers"), "a wrong gradient without an error");
  t.notOk(lacking.includes("matMul"), "other gradients are right");
});

t.test("the wasm backend with our kernels computes every case as the cpu backend does", async (t) => {
  await tf.setBackend("wasm");
  installTrainingKernels();
  compareGradients(t, GRADIENT_CASES, await computedOn("wasm", GRADIENT_CASES), reference);
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
  compareGradients(t, able, await computedOn("tensorflow", able), expected);
});
