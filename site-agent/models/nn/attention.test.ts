import t from "tap";
import { loadBackendPackage, tf } from "../../backend/tensors.ts";
import { installTrainingKernels } from "../../backend/wasm-kernels/install.ts";
import { dotProductAttention } from "./attention.ts";
import { ModelPart } from "./model-part.ts";
import { projectedAttention } from "./projected-attention.ts";

await loadBackendPackage("@tensorflow/tfjs-backend-wasm");
await tf.setBackend("wasm");
installTrainingKernels();

/** Few enough that shares are kept, and so many that they are computed in parts. */
const SIZES = [
  { queries: 5, keys: 7 },
  { queries: 1200, keys: 1000 },
];
const [GROUPS, CHANNELS, ABSENT] = [2, 8, 3];
const HIDDEN = -1e9;

function random(shape: [number, number, number], seed: number): tf.Tensor3D {
  return tf.randomUniform(shape, -1, 1, "float32", seed);
}

function farthest(a: tf.Tensor, b: tf.Tensor): number {
  return tf.max(tf.abs(tf.sub(a, b))).dataSync()[0] ?? Number.NaN;
}

type Three = [query: tf.Tensor3D, key: tf.Tensor3D, value: tf.Tensor3D];

/** Weighed by fixed numbers, so that every output has a gradient of its own. */
function gradients(compute: (...given: Three) => tf.Tensor, inputs: Three): Three {
  const loss = (...given: tf.Tensor[]): tf.Scalar => {
    const value = compute(...(given as Three)); // As given below.
    return tf.sum(tf.mul(value, tf.randomUniform(value.shape, -1, 1, "float32", 9)));
  };
  return tf.grads(loss)(inputs) as Three; // One for each.
}

for (const { queries, keys } of SIZES) {
  t.test(`${queries} queries to ${keys} keys attend as the formula says`, async (t) => {
    const inputs: Three = [
      random([GROUPS, queries, CHANNELS], 1),
      random([GROUPS, keys, CHANNELS], 2),
      random([GROUPS, keys, CHANNELS], 3),
    ];
    const formula = (...[query, key, value]: Three) =>
      tf.matMul(tf.softmax(tf.mul(tf.matMul(query, key, false, true), CHANNELS ** -0.5)), value);
    const ours = (...[query, key, value]: Three) => dotProductAttention({ query, key, value });
    t.ok(farthest(ours(...inputs), formula(...inputs)) < 1e-5);
    const expected = gradients(formula, inputs);
    gradients(ours, inputs).forEach((gradient, index) => {
      t.ok(farthest(gradient, expected[index] as tf.Tensor) < 1e-4, `gradient ${index}`);
    });
  });

  t.test(`of ${keys} keys those that are hidden are as good as absent`, async (t) => {
    const [query, key, value] = [
      random([GROUPS, queries, CHANNELS], 1),
      random([GROUPS, keys, CHANNELS], 2),
      random([GROUPS, keys, CHANNELS], 3),
    ];
    const isHidden = Array.from({ length: GROUPS * keys }, (_, at) =>
      at % keys < keys - ABSENT ? 0 : HIDDEN,
    );
    const hidden = tf.tensor3d(isHidden, [GROUPS, 1, keys]);
    const shown = (x: tf.Tensor3D) => tf.slice(x, [0, 0, 0], [GROUPS, keys - ABSENT, CHANNELS]);
    const hiding = (...[q, k, v]: Three) => dotProductAttention({ query: q, key: k, value: v, hidden });
    const without = (...[q, k, v]: Three) =>
      dotProductAttention({ query: q, key: shown(k), value: shown(v) });
    t.ok(farthest(hiding(query, key, value), without(query, key, value)) < 1e-6);
    const expected = gradients(without, [query, key, value]);
    gradients(hiding, [query, key, value]).forEach((gradient, index) => {
      t.ok(farthest(gradient, expected[index] as tf.Tensor) < 1e-5, `gradient ${index}`);
    });
  });
}

t.test("of several heads each has the same keys hidden", async (t) => {
  const weights = new Map<string, tf.Tensor>(
    ["q_proj", "k_proj", "v_proj", "out_proj"].flatMap((name, index) => [
      [`${name}.weight`, tf.randomUniform([CHANNELS, CHANNELS], -1, 1, "float32", 20 + index)] as const,
      [`${name}.bias`, tf.randomUniform([CHANNELS], -1, 1, "float32", 30 + index)] as const,
    ]),
  );
  const part = new ModelPart({ tensor: (name) => weights.get(name) as never }, {}, ""); // Their shapes, as named.
  const [query, memory] = [random([2, 4, CHANNELS], 1), random([2, 6, CHANNELS], 2)];
  const hidden = tf.tensor3d([0, 0, 0, 0, HIDDEN, HIDDEN, 0, 0, 0, 0, 0, 0], [2, 1, 6]);
  const options = { headCount: 2 };
  const found = projectedAttention({ query, key: memory, value: memory, hidden }, part, options);
  const of = (object: number, count: number): tf.Tensor3D => {
    const own = tf.slice(memory, [object, 0, 0], [1, count, CHANNELS]);
    return projectedAttention({ query: tf.slice(query, object, 1), key: own, value: own }, part, options);
  };
  t.ok(farthest(tf.slice(found, 0, 1), of(0, 4)) < 1e-6, "two of the first object's six");
  t.ok(farthest(tf.slice(found, 1, 1), of(1, 6)) < 1e-6, "none of the second's");
});
