import t from "tap";
import { withBranches } from "../../../test/support/with-branches.ts";
import { startBackend } from "../../backend/start-backend.ts";
import { tf } from "../../backend/tensors.ts";
import { maxPoolByTwo } from "./max-pool-by-two.ts";

await startBackend("wasm");

/** The pooled image, and the gradient of it weighed by drawn numbers. */
function numbers(image: tf.Tensor4D): number[] {
  const { value, grad } = tf.valueAndGrad((given: tf.Tensor) => {
    const pooled = maxPoolByTwo(given as tf.Tensor4D); // As given.
    return tf.sum(tf.mul(pooled, tf.randomNormal(pooled.shape, 0, 1, "float32", 7)));
  })(image);
  return [maxPoolByTwo(image), value, grad].flatMap((tensor) => [...tensor.dataSync()]);
}

t.test("for graphs it is the framework's pooling, and so is its gradient", (t) => {
  for (const [height, width] of [
    [2, 2],
    [6, 4],
    [7, 4],
    [4, 5],
  ] as const) {
    const image = tf.randomNormal([3, height, width, 5], 0, 1, "float32", height) as tf.Tensor4D;
    const expected = numbers(image);
    withBranches(2, () => {
      const found = numbers(image);
      t.equal(found.length, expected.length);
      const error = found.map((value, index) => Math.abs(value - (expected[index] ?? Number.NaN)));
      t.ok(Math.max(...error) < 1e-5, `${height} x ${width}`);
    });
  }
  t.end();
});

t.test("of equal pixels one alone has a gradient", (t) => {
  withBranches(2, () => {
    const gradient = tf.grad((x: tf.Tensor) => tf.sum(maxPoolByTwo(x as tf.Tensor4D)))(
      tf.zeros([1, 2, 2, 1]),
    );
    t.strictSame([...gradient.dataSync()], [1, 0, 0, 0]);
  });
  t.end();
});
