import t from "tap";
import { chooseBackend } from "../choose-backend.ts";
import { startBackend } from "../start-backend.ts";
import { tf } from "../tensors.ts";
import { type CompileWarning, compileStep } from "./compile-step.ts";
import { largestError } from "./largest-error.ts";
import { tryBfloat16 } from "./product-format.ts";

const native = await startBackend("tfjs-node").then(
  () => true,
  () => false,
);
const tensorsBefore = native ? tf.memory().numTensors : 0;
const trial = native ? tryBfloat16() : null;
const skip =
  trial === null
    ? "@tensorflow/tfjs-node is not installed here"
    : !trial.isUsed && `products in bfloat16 are not usable here: ${trial.reason}`;

t.test("a backend without graphs keeps float32, and says so", async (t) => {
  await startBackend("cpu");
  t.strictSame(tryBfloat16(), { isUsed: false, reason: "only TensorFlow has them" });
  const { backend, passedOver } = await chooseBackend({ requested: "cpu", products: "bfloat16" });
  t.notMatch(backend.version, /bfloat16/);
  t.strictSame(passedOver, [{ name: "products in bfloat16", reason: "only TensorFlow has them" }]);
});

const inputs = (step: number): tf.NamedTensorMap => ({
  x: tf.randomNormal([64, 96], 0, 1, "float32", 2 * step + 1),
  late: tf.randomNormal([96, 32], 0, 1, "float32", 2 * step + 2),
});
const compute = ({ x, late }: tf.NamedTensorMap): tf.NamedTensorMap => {
  const given = tf.tanh(x as tf.Tensor2D);
  return {
    square: tf.matMul(given, given, false, true),
    product: tf.matMul(given, late as tf.Tensor2D),
  };
};
const CALLS = 8;

t.test("trying leaves nothing behind", { skip: trial === null && skip }, (t) => {
  t.equal(tf.memory().numTensors, tensorsBefore);
  t.end();
});

t.test("graphs multiply in bfloat16, whole and in halves, as far off as that is", { skip }, async (t) => {
  await tf.setBackend("tensorflow");
  const warnings: CompileWarning[] = [];
  const options = { later: ["late"], onWarning: (warning: CompileWarning) => void warnings.push(warning) };
  const step = compileStep(compute, { name: "products", ...options });
  const errors: number[] = [];
  for (let call = 0; call < CALLS; call += 1) {
    tf.tidy(() => {
      const given = inputs(call);
      const exact = compute(given);
      errors.push(largestError(exact, step.run(given)));
      if (call < CALLS - 1) return;
      const begun = step.begin({ x: given["x"] as tf.Tensor });
      if (!begun) throw new Error("the graph is trusted by now");
      const found = { ...begun.outputs, ...step.finish(begun.begun, given) } as tf.NamedTensorMap;
      errors.push(largestError(exact, found));
      tf.dispose([found, [...begun.begun.tensors]]);
    });
  }
  step.dispose();
  t.strictSame(warnings, []);
  t.ok(
    errors.slice(0, 6).every((error) => error < 1e-6),
    "recorded and compared in float32",
  );
  t.ok(
    errors.slice(6).every((error) => error > 1e-4 && error < 1e-2),
    `${errors.slice(6)}`,
  );
});

t.test("another computation is found out in bfloat16 too", { skip }, async (t) => {
  await tf.setBackend("tensorflow");
  const warnings: string[] = [];
  let factor = 1;
  const changing = (given: tf.NamedTensorMap): tf.NamedTensorMap => {
    factor += 0.2;
    return { product: tf.mul(tf.matMul(given["x"] as tf.Tensor, given["late"] as tf.Tensor), factor) };
  };
  const step = compileStep(changing, { name: "changing", onWarning: ({ code }) => void warnings.push(code) });
  for (let call = 0; call < 3; call += 1) tf.tidy(() => void step.run(inputs(call)));
  step.dispose();
  t.strictSame(warnings, ["graph.differs"]);
});

t.test("the backend's version says with what it multiplies", { skip }, async (t) => {
  const { backend, passedOver } = await chooseBackend({ requested: "tfjs-node", products: "bfloat16" });
  // Tried once more: on a busy machine it may not seem worth it this time.
  const [one] = passedOver;
  if (one) t.match(one, { name: "products in bfloat16", reason: /times as fast/ });
  else t.match(backend.version, /, bfloat16 products \(relative error \d\.\de-3, \d+\.\d times as fast\)$/);
});
