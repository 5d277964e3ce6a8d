import t from "tap";
import { withBranches } from "../../../test/support/with-branches.ts";
import { startBackend } from "../start-backend.ts";
import { tf } from "../tensors.ts";
import { inBranches } from "./in-branches.ts";

await startBackend("wasm");

const SAMPLES = 5;
const images = tf.randomNormal([SAMPLES, 4], 0, 1, "float32", 1);
const rows = tf.randomNormal([2 * SAMPLES, 4], 0, 1, "float32", 2);
const weight = tf.tensor1d([1, -2, 0.5, 3]);

/** Of every sample its own numbers and those of its two rows. */
function computed(sizes: number[]): tf.NamedTensorMap {
  return inBranches({ images, rows }, SAMPLES, ({ images: some, rows: own }) => {
    const count = some?.shape[0] ?? 0;
    sizes.push(count);
    const sums = tf.sum(tf.reshape(own as tf.Tensor, [count, 2, 4]), 1);
    const scaled = tf.mul(tf.add(some as tf.Tensor, sums), weight);
    return { scaled, total: tf.sum(scaled, 1) };
  });
}

/** Numbers of a computation and of the gradients of what it was given. */
function numbers(sizes: number[]): number[] {
  const loss = (): tf.Scalar => {
    const { scaled, total } = computed(sizes);
    return tf.add(tf.sum(tf.square(scaled as tf.Tensor)), tf.sum(tf.exp(total as tf.Tensor))) as tf.Scalar;
  };
  const { value, grads } = tf.engine().gradients(loss, [images, rows, weight]);
  const { scaled, total } = computed([]);
  const tensors = [value, ...grads, scaled, total] as tf.Tensor[]; // All were asked for.
  return tensors.flatMap((tensor) => [...tensor.dataSync()]);
}

t.test("a batch in parts gives what it gives as a whole, and so do its gradients", (t) => {
  const whole: number[] = [];
  const expected = numbers(whole);
  t.strictSame(whole, [SAMPLES], "where no graph is run it is not parted");
  const partsOf = new Map([
    [1, [5]],
    [2, [2, 3]],
    [3, [1, 2, 2]],
    [8, [1, 1, 1, 1, 1]],
  ]);
  for (const [branches, sizes] of partsOf)
    withBranches(branches, () => {
      const found: number[] = [];
      const error = numbers(found).map((value, index) => Math.abs(value - (expected[index] ?? Number.NaN)));
      t.strictSame(found, sizes);
      t.ok(Math.max(...error) < 1e-4 * Math.max(...expected.map(Math.abs)), `${branches} branches`);
    });
  t.end();
});
