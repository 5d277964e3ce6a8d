import t from "tap";
import { expectFusedLayers } from "../../test/support/fused-layers.ts";
import { tensor } from "../../test/support/same-on-cpu.ts";
import { gelu } from "../models/nn/gelu.ts";
import { GELU_GRADIENT, hasKernel, runKernel } from "./fused-kernel.ts";
import { compileStep } from "./graph/compile-step.ts";
import { tryBackend } from "./start-backend.ts";
import { installTensorFlowKernels } from "./tensorflow-kernels.ts";
import { operationThreads } from "./tensorflow-threads.ts";
import { tf } from "./tensors.ts";

const report = await tryBackend("tfjs-node");
const why = "unusable" in report ? report.unusable : null;
const addon = why === null ? installTensorFlowKernels("@tensorflow/tfjs-node", 1) : null;
const skip = addon === null && (why ?? "npm run setup:native has not built our kernels here");

t.test("layers are those of composed operations at every level of instructions", { skip }, async (t) => {
  t.ok(hasKernel(GELU_GRADIENT));
  t.match(
    "version" in report && report.version,
    /own kernels with/,
    "and every update says that they were used",
  );
  for (const level of addon?.levels ?? []) {
    t.ok(addon?.useLevel(level), level);
    await expectFusedLayers(t);
  }
  t.notOk(addon?.useLevel("no such level"));
  addon?.useLevel(addon.levels[0] ?? "");
});

t.test("in a graph they give what they give by themselves", { skip }, async (t) => {
  const x = tensor("x", [6, 40], 3);
  const compute = ({ given }: tf.NamedTensorMap): tf.NamedTensorMap => {
    const { value, grad } = tf.valueAndGrad((from) => tf.sum(tf.square(gelu(from))))(given as tf.Tensor);
    return { value, grad };
  };
  const warnings: string[] = [];
  const step = compileStep(compute, { name: "test", onWarning: (warning) => warnings.push(warning.code) });
  const expected = tf.tidy(() => compute({ given: x })["grad"]?.dataSync());
  for (let run = 0; run < 8; run += 1) {
    const { grad } = await step.run({ given: x });
    t.strictSame(grad?.dataSync(), expected, `run ${run}`);
  }
  t.strictSame(warnings, []);
  step.dispose();
});

t.test("tensors that do not fit are refused", { skip }, (t) => {
  const [x, dy] = [tensor("x", [3, 4]), tensor("dy", [2, 4])];
  t.throws(() => runKernel(GELU_GRADIENT, { x, dy }), { message: /input 1 has another shape/ });
  t.end();
});

t.test("an operation has the threads that TensorFlow was given for one", (t) => {
  const threads = (wish?: string): number =>
    operationThreads(wish === undefined ? {} : { TF_NUM_INTRAOP_THREADS: wish }, 4);
  t.strictSame(["3", "1", "400", "0", "-2", "many"].map(threads), [3, 1, 4, 1, 1, 1]);
  t.equal(threads(), 1);
  t.end();
});
