// Where TensorFlow is installed: every call of the recipes' compiled steps can be timed in a graph of its own.

import t from "tap";
import { Value } from "typebox/value";
import { planRefinedBy, refinedConfig, ticking, tinyPlan } from "../../test/support/estimated-plans.ts";
import { startBackend } from "../backend/start-backend.ts";
import { tf } from "../backend/tensors.ts";
import type { KernelCall } from "./kernel-call.ts";
import { estimateStep, StepEstimate } from "./step-estimate.ts";
import { graphOverhead, timeInGraph } from "./time-in-graphs.ts";
import { groups } from "./time-kernels.ts";

const native = await startBackend("tfjs-node").then(
  () => true,
  () => false,
);
const skip = native ? false : "@tensorflow/tfjs-node is not installed here";

const refined = planRefinedBy(refinedConfig({ clip: { slices: 2, queries: 1, objects: 1 } }));

t.test("a step's estimate times what its graphs run", { skip }, async (t) => {
  for (const plan of [tinyPlan, refined]) {
    const gauges = { seconds: ticking(1e-6), residentBytes: () => 1000 };
    const estimate = await estimateStep("tfjs-node", plan, gauges);
    t.ok(Value.Check(StepEstimate, estimate), plan.recipe.id);
    t.equal(estimate.timedShare, 1, "every call was timed");
    t.equal(estimate.memoryBytes, estimate.hostBytes + estimate.tensorBytes);
  }
});

t.test("what is timed as a whole is called equally often, and finds room", (t) => {
  const call = { kernel: "Add", inputs: {}, isList: false, attributes: {}, outputs: [] };
  const item = (count: number, mebibytes: number) => ({
    ...{ call, inGraph: true, count, guess: 1 },
    work: { kind: "elementwise" as const, flops: 0, bytes: mebibytes * 2 ** 20, scratchBytes: 0 },
  });
  const items = [item(3, 1), item(1, 1), item(3, 60), item(2, 1), item(3, 30), item(1, 1)];
  const counts = (areToldApart: boolean): number[][] =>
    groups(items, areToldApart).map((group) => group.map(({ count }) => count));
  t.strictSame(counts(false), [[3, 3], [1, 1], [2], [3]]);
  t.strictSame(counts(true), [
    [3, 1, 3, 2],
    [3, 1],
  ]);
  t.end();
});

t.test("timing leaves nothing behind, and no call has one tensor twice", { skip }, (t) => {
  const form = { shape: [8, 8], dtype: "float32" as const };
  const difference: KernelCall = {
    ...{ kernel: "Sub", inputs: { a: form, b: form }, isList: false, attributes: {}, outputs: [form] },
  };
  const list: KernelCall = {
    ...{ kernel: "AddN", inputs: { 0: form, 1: form, 2: form }, isList: true, attributes: {} },
    outputs: [form],
  };
  const before = tf.memory().numTensors;
  const overhead = graphOverhead(ticking(1e-6));
  const given: number[] = [];
  const run = tf.engine().runKernel.bind(tf.engine());
  t.intercept(tf.engine(), "runKernel", {
    value: (...call: Parameters<typeof run>) => {
      const [kernel, inputs] = call;
      if (kernel === "Sub" || kernel === "AddN")
        given.push(new Set(Object.values(inputs).map(({ dataId }) => dataId)).size);
      return run(...call);
    },
  });
  timeInGraph([difference, list], overhead, ticking(1e-6));
  t.strictSame(given, [2, 3]);
  t.equal(tf.memory().numTensors, before);
  t.end();
});
