import { Prng } from "@consilium/shared/base/prng.ts";
import t from "tap";
import { startBackend } from "../start-backend.ts";
import { tf } from "../tensors.ts";
import { type CompileWarning, compileStep } from "./compile-step.ts";
import { DATA_TYPES, GraphWriter } from "./graph-writer.ts";
import { errorOfKinds, largestError } from "./largest-error.ts";
import { ProtobufWriter } from "./protobuf-writer.ts";

const hex = (writer: ProtobufWriter): string => Buffer.from(writer.finish()).toString("hex");

t.test("fields are written as the encoding guide has them", (t) => {
  const message = () => new ProtobufWriter();
  t.equal(hex(message().integer(1, 150)), "089601");
  t.equal(hex(message().integer(1, -1)), "08ffffffffffffffffff01");
  t.equal(hex(message().integer(1, 2n ** 63n - 1n)), "08ffffffffffffffff7f");
  t.equal(hex(message().boolean(2, true)), "1001");
  t.equal(hex(message().text(2, "testing")), "120774657374696e67");
  t.equal(hex(message().message(3, message().integer(1, 150))), "1a03089601");
  t.equal(hex(message().float(5, 1.5)), "2d0000c03f");
  t.equal(hex(message().entry(5, "k", message().integer(3, 1))), "2a070a016b12021801");
  t.equal(hex(message().bytes(16, Uint8Array.of(7))), "82010107", "a field number that takes two bytes");
  t.end();
});

t.test("a graph is a SavedModel with its nodes in order", (t) => {
  const graph = new GraphWriter();
  const input = graph.placeholder(DATA_TYPES.float32, [2, 3]);
  const constant = graph.constant({ type: DATA_TYPES.int32, shape: [1], bytes: Uint8Array.of(1, 0, 0, 0) });
  const sum = graph.node("Sum", [input, constant], {
    T: { kind: "type", value: DATA_TYPES.float32 },
    keep_dims: { kind: "boolean", value: false },
    strides: { kind: "integer", value: [1, 2] },
    scale: { kind: "float", value: 0.5 },
    padding: { kind: "text", value: "SAME" },
  });
  t.strictSame([input, constant, sum, graph.nodeCount], ["Placeholder_0:0", "Const_1:0", "Sum_2", 3]);
  const text = Buffer.from(graph.savedModel()).toString("latin1");
  const places = ["serve", "Placeholder_0", "Const_1", "Sum_2", "keep_dims", "SAME"].map((word) =>
    text.indexOf(word),
  );
  t.ok(places.every((place) => place > 0));
  t.strictSame(
    places,
    [...places].sort((a, b) => a - b),
  );
  t.end();
});

t.test("the error of two results is that of their worst tensor, and rounding is none", async (t) => {
  await tf.setBackend("cpu");
  const result = (values: number[], rest: number[] = [0, 0]) => ({
    "gradient a": tf.tensor1d(values),
    "gradient b": tf.tensor1d(rest),
  });
  t.equal(largestError(result([3, 4]), result([3, 4])), 0);
  t.equal(largestError(result([3, 4]), result([3, 4.5])), 0.1);
  t.equal(largestError(result([3, 4], [1e-9, 0]), result([3, 4], [-1e-9, 0])), 0, "zero in exact arithmetic");
  t.ok(largestError(result([3, 4], [1, 0]), result([3, 4], [0, 0])) >= 1);
  t.equal(largestError(result([3, 4]), result([3, Number.NaN])), Number.POSITIVE_INFINITY);
  t.equal(largestError(result([3, 4]), { "gradient a": tf.tensor1d([3, 4]) }), Number.POSITIVE_INFINITY);
  t.equal(largestError({ a: tf.tensor1d([1]) }, { a: tf.tensor2d([[1]]) }), Number.POSITIVE_INFINITY);
  const moments = (second: number) => ({ "value a": tf.tensor1d([3]), "second a": tf.tensor1d([second]) });
  t.ok(largestError(moments(1e-9), moments(2e-9)) >= 1, "small beside another kind is not zero");
});

t.test("without TensorFlow a step runs as it is", async (t) => {
  await tf.setBackend("cpu");
  let calls = 0;
  const step = compileStep(
    ({ x }) => {
      calls += 1;
      return { y: tf.mul(x as tf.Tensor, 2) }; // Given below.
    },
    { name: "twice" },
  );
  const before = tf.memory().numTensors;
  const x = tf.tensor1d([1, 2]);
  const { y } = step.run({ x });
  t.strictSame([...y.dataSync()], [2, 4]);
  tf.dispose([x, y]);
  t.equal(tf.memory().numTensors, before);
  t.equal(calls, 1);
});

t.test("the error of kinds is that of all tensors of one together", async (t) => {
  await tf.setBackend("cpu");
  const result = (a: number[], b: number[]) => ({
    "gradient a": tf.tensor1d(a),
    "gradient b": tf.tensor1d(b),
  });
  t.equal(errorOfKinds(result([3, 0], [0, 4]), result([3, 0], [0, 4])), 0);
  t.equal(errorOfKinds(result([3, 0], [0, 4]), result([3, 0], [3, 4])), 0.6);
  const kinds = (loss: number) => ({ ...result([3, 0], [0, 4]), loss: tf.scalar(loss) });
  t.equal(errorOfKinds(kinds(1), kinds(2)), 1, "each kind by itself");
  t.equal(errorOfKinds(kinds(Number.NaN), kinds(1)), Number.POSITIVE_INFINITY);
  t.equal(errorOfKinds(kinds(0), kinds(1)), Number.POSITIVE_INFINITY);
  t.equal(errorOfKinds(kinds(1), result([3, 0], [0, 4])), Number.POSITIVE_INFINITY);
});

t.test("what is rounded for a product does not cross from one half to the other", (t) => {
  const graph = new GraphWriter();
  const float = DATA_TYPES.float32;
  const [x, late] = [graph.placeholder(float, [2, 2]), graph.placeholder(float, [2, 2])];
  const early = `${graph.node("Exp", [x], {})}:0`;
  const square = `${graph.narrowProduct("MatMul", [early, early], {})}:0`;
  const product = `${graph.narrowProduct("MatMul", [early, late], {})}:0`;
  const { first, second } = graph.runs([late], [square, product]);
  t.strictSame([first.outputs, second.known], [[square, early], [early]]);
  const [given, exponential, rounded, products, backAgain] = [2, 1, 2, 2, 2];
  t.equal(graph.nodeCount, given + exponential + rounded + products + backAgain, "each is rounded once");
  t.end();
});

const native = await startBackend("tfjs-node").then(
  () => true,
  () => false,
);
const skip = native ? false : "@tensorflow/tfjs-node is not installed here";

/** A small network with everything that a step has: products, a convolution, a norm, a maximum, gradients and a state. */
function smallStep(inputs: tf.NamedTensorMap): tf.NamedTensorMap {
  const { x, kernel, weight, rate } = inputs as Record<string, tf.Tensor>;
  const loss = (k: tf.Tensor, w: tf.Tensor): tf.Scalar => {
    const image = tf.maxPool(
      tf.relu(tf.conv2d(x as tf.Tensor4D, k as tf.Tensor4D, 1, "same")),
      2,
      2,
      "valid",
    ); // Shapes below.
    return tf.mean(tf.square(tf.matMul(tf.reshape(image, [2, 8]), w as tf.Tensor2D))); // As above.
  };
  const { value, grads } = tf.valueAndGrads(loss)([kernel as tf.Tensor, weight as tf.Tensor]);
  const moved = (tensor: tf.Tensor, index: number) =>
    tf.sub(tensor, tf.mul(grads[index] as tf.Tensor, rate as tf.Tensor));
  return { value, kernel: moved(kernel as tf.Tensor, 0), weight: moved(weight as tf.Tensor, 1) };
}

type Run = { readonly losses: number[]; readonly kernel: Float32Array; readonly warnings: CompileWarning[] };

/** Steps with new data and another rate each, whose results are the next one's inputs. */
function steps(count: number, compute: typeof smallStep, isCompiled: boolean): Run {
  const prng = Prng.labelled(1, "graph");
  const numbers = (size: number): number[] => Array.from({ length: size }, () => prng.normal());
  const warnings: CompileWarning[] = [];
  const options = { name: "small", onWarning: (warning: CompileWarning) => void warnings.push(warning) };
  const compiled = isCompiled ? compileStep(compute, options) : { run: compute, dispose: () => {} };
  let state = {
    kernel: tf.tensor4d(numbers(18), [3, 3, 1, 2]),
    weight: tf.tensor2d(numbers(24), [8, 3]),
  } as tf.NamedTensorMap;
  const losses: number[] = [];
  for (let step = 0; step < count; step += 1) {
    const x = tf.tensor4d(numbers(32), [2, 4, 4, 1]);
    const rate = tf.scalar(0.01 / (step + 1));
    const { value, ...next } = tf.tidy(() => compiled.run({ x, rate, ...state }));
    losses.push(...(value?.dataSync() ?? []));
    tf.dispose([x, rate, value as tf.Tensor, state]);
    state = next;
  }
  const kernel = (state["kernel"] as tf.Tensor).dataSync() as Float32Array; // Its type.
  tf.dispose(state);
  compiled.dispose();
  return { losses, kernel, warnings };
}

t.test(
  "a compiled step goes where eager ones go, with changing data, rate and state",
  { skip },
  async (t) => {
    await tf.setBackend("tensorflow");
    let calls = 0;
    const counted: typeof smallStep = (inputs) => {
      calls += 1;
      return smallStep(inputs);
    };
    const before = tf.memory().numTensors;
    const found = steps(20, counted, true);
    t.equal(tf.memory().numTensors, before, "no tensor is left");
    t.strictSame(found.warnings, []);
    t.equal(calls, 6, "once recorded, five times compared, and never again");
    const expected = steps(20, smallStep, false);
    found.losses.forEach((loss, step) => {
      t.ok(
        Math.abs(loss - (expected.losses[step] ?? Number.NaN)) <= 1e-5 * Math.abs(loss),
        `loss of step ${step}`,
      );
    });
    t.ok(
      found.kernel.every((value, index) => Math.abs(value - (expected.kernel[index] ?? Number.NaN)) < 1e-5),
    );
  },
);

t.test("what is compiled again is trusted after one call, unless it once differed", { skip }, async (t) => {
  await tf.setBackend("tensorflow");
  let calls = 0;
  const counted: typeof smallStep = (inputs) => {
    calls += 1;
    const { value, ...rest } = smallStep(inputs);
    return { value: tf.add(value as tf.Tensor, 1), ...rest };
  };
  const first = steps(4, counted, true);
  const second = steps(8, counted, true);
  t.equal(calls, 4 + 3, "comparisons count together: three of five in the first run");
  t.strictSame([...first.losses, ...second.losses].length, 12);
  const third = steps(8, counted, true);
  t.equal(calls, 4 + 3 + 1, "recorded and found to be known");
  third.losses.forEach((loss, step) => {
    t.ok(
      Math.abs(loss - (second.losses[step] ?? Number.NaN)) <= 1e-6 * Math.abs(loss),
      `loss of step ${step}`,
    );
  });
  for (const run of [1, 2]) {
    let isRecorded = false;
    const late: typeof smallStep = (inputs) => {
      const { value, ...rest } = smallStep(inputs);
      const factor = isRecorded ? 3 : 2;
      isRecorded = true;
      return { value: tf.mul(value as tf.Tensor, factor), ...rest };
    };
    t.match(steps(8, late, true).warnings, [{ code: "graph.differs" }], `run ${run} of the same graph`);
  }
});

t.test("a step that is another one each time is found out, and goes on eagerly", { skip }, async (t) => {
  await tf.setBackend("tensorflow");
  let calls = 0;
  const drifting: typeof smallStep = (inputs) => {
    calls += 1;
    const { value, ...rest } = smallStep(inputs);
    return { value: tf.mul(value as tf.Tensor, tf.tensor1d([calls])), ...rest };
  };
  const { warnings, losses } = steps(12, drifting, true);
  t.match(warnings, [{ code: "graph.differs", step: "small" }]);
  t.equal(warnings.length, 1);
  t.equal(calls, 12, "every step is computed, and none twice");
  t.equal(losses.length, 12);
});

t.test("what cannot be recorded runs eagerly, and says so once", { skip }, async (t) => {
  await tf.setBackend("tensorflow");
  const hidden = tf.tensor1d([2]);
  const { warnings } = steps(4, (inputs) => ({ ...smallStep(inputs), extra: tf.mul(hidden, 2) }), true);
  t.match(warnings, [{ code: "graph.not-recorded", reason: /no declared input/ }]);
  const reading = steps(
    4,
    (inputs) => {
      const outputs = smallStep(inputs);
      (outputs["value"] as tf.Tensor).dataSync();
      return outputs;
    },
    true,
  );
  t.match(reading.warnings, [{ code: "graph.not-recorded", reason: /reads numbers back/ }]);
  hidden.dispose();
});
