// A computation in two halves: what does not depend on later inputs, and the rest.

import { Prng } from "@consilium/shared/base/prng.ts";
import t from "tap";
import { startBackend } from "../start-backend.ts";
import { tf } from "../tensors.ts";
import { compileStep } from "./compile-step.ts";
import { DATA_TYPES, GraphWriter } from "./graph-writer.ts";

const native = await startBackend("tfjs-node").then(
  () => true,
  () => false,
);
const skip = native ? false : "@tensorflow/tfjs-node is not installed here";

t.test("a graph falls into what can be computed before some inputs are known, and the rest", (t) => {
  const graph = new GraphWriter();
  const [x, weight, late] = [0, 1, 2].map(() => graph.placeholder(DATA_TYPES.float32, [2])) as [
    string,
    string,
    string,
  ]; // Three.
  const constant = graph.constant({ type: DATA_TYPES.float32, shape: [1], bytes: new Uint8Array(4) });
  const node = (operation: string, ...inputs: string[]): string => `${graph.node(operation, inputs, {})}:0`;
  const narrow = node("MatMul", x, weight);
  const active = node("Relu", narrow);
  const feature = node("Add", active, constant);
  const product = node("Mul", feature, late);
  const slope = node("ReluGrad", late, active);
  const gradient = node("MatMul", slope, weight);
  node("Sum", product, feature);
  node("Mul", late, late);
  const ends = graph.runs([late], [feature, gradient]);
  t.strictSame(ends.whole, { inputs: [x, weight, late], known: [], outputs: [feature, gradient] });
  t.strictSame(ends.first, { inputs: [x, weight], known: [], outputs: [feature, active] });
  t.strictSame(ends.second, { inputs: [weight, late], known: [active], outputs: [gradient] });
  const both = graph.runs([late], [product, gradient]);
  t.strictSame(both.first, { inputs: [x, weight], known: [], outputs: [active, feature] });
  t.strictSame(both.second, {
    ...{ inputs: [weight, late], known: [active, feature], outputs: [product, gradient] },
  });
  t.strictSame(graph.runs([], [feature]).second, { inputs: [], known: [], outputs: [] });
  t.strictSame(graph.runs([], [x]).whole.inputs, [x], "no weight for what needs none");
  t.end();
});

t.test(
  "a computation begins before its later inputs are known, and is finished with them",
  { skip },
  async (t) => {
    await tf.setBackend("tensorflow");
    const before = tf.memory().numTensors;
    let calls = 0;
    const compute = ({ x, weight, dy }: tf.NamedTensorMap): tf.NamedTensorMap => {
      calls += 1;
      let kept: tf.Tensor | undefined;
      const product = (w: tf.Tensor): tf.Scalar => {
        const y = tf.relu(tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D)); // Shapes below.
        kept = tf.keep(tf.clone(y));
        return tf.sum(tf.mul(y, dy as tf.Tensor)); // As above.
      };
      const gradient = tf.grad(product)(weight as tf.Tensor); // As above.
      return { y: kept as tf.Tensor, gradient }; // Set above.
    };
    const step = compileStep(compute, { name: "halves", later: ["dy"] });
    const prng = Prng.labelled(1, "halves");
    const drawn = (rows: number, columns: number): tf.Tensor2D =>
      tf.tensor2d(
        Array.from({ length: rows * columns }, () => prng.normal()),
        [rows, columns],
      );
    for (let round = 0; round < 8; round += 1) {
      const inputs = { x: drawn(3, 4), weight: drawn(4, 2) };
      const dy = drawn(3, 2);
      const begun = step.begin(inputs);
      t.equal(begun !== null, round >= 6, "not before the graph is trusted");
      const whole = { ...inputs, dy };
      const found = begun ? { ...begun.outputs, ...step.finish(begun.begun, whole) } : step.run(whole);
      const callsBefore = calls;
      const expected = tf.tidy(() => compute({ ...inputs, dy }));
      calls = callsBefore;
      for (const name of ["y", "gradient"]) {
        const [one, other] = [found, expected].map((tensors) => tensors[name]?.dataSync());
        t.ok(
          one?.every((value, index) => Math.abs(value - (other?.[index] ?? Number.NaN)) < 1e-5),
          name,
        );
      }
      tf.dispose([inputs, dy, found, expected, [...(begun?.begun.tensors ?? [])]]);
    }
    t.equal(calls, 6, "recorded once and compared five times, in halves");
    const last = { x: drawn(3, 4), weight: drawn(4, 2) };
    const begun = step.begin(last);
    step.dispose();
    const dy = drawn(3, 2);
    const whole = step.finish(begun?.begun ?? { form: "", graph: {}, tensors: [] }, { ...last, dy });
    t.ok(whole["gradient"], "without the graph everything is computed anew");
    for (const tensors of [whole, last, begun?.outputs ?? {}, { dy }]) tf.dispose(Object.values(tensors));
    tf.dispose([...(begun?.begun.tensors ?? [])]);
    t.equal(tf.memory().numTensors, before);
  },
);
