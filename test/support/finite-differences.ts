// Holds a gradient against central differences: for tests of layers and losses whose gradients are written out or that
// pass through kernels of ours. Float32 allows about three digits; more would be noise.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { tf } from "@consilium/site-agent/backend/tensors.ts";

export type DifferenceOptions = {
  /** Length of the step to both sides. */
  readonly step?: number;
  /** Elements of each input that are tried, evenly spread. */
  readonly triedMax?: number;
};

/**
 * The largest deviation of a gradient from the differences, as a share of the largest difference of that input.
 * @param compute a scalar from the inputs, in their order
 * @returns one number for each input; below 0.01 the gradient is right
 */
export function gradientDeviations(
  compute: (...inputs: tf.Tensor[]) => tf.Scalar,
  inputs: readonly tf.Tensor[],
  { step = 1e-2, triedMax = 24 }: DifferenceOptions = {},
): number[] {
  return tf.tidy(() => {
    const gradients = tf
      .grads(compute)([...inputs])
      .map((gradient) => gradient.dataSync());
    return inputs.map((input, index) => {
      const gradient = expectDefined(gradients[index], "gradient of an input");
      const values = input.dataSync() as Float32Array; // Inputs with gradients are float32.
      const stride = Math.max(1, Math.floor(values.length / triedMax));
      let [largest, deviation] = [1e-6, 0];
      for (let element = 0; element < values.length; element += stride) {
        const moved = (distance: number) => {
          const copy = values.slice();
          copy[element] = (copy[element] ?? 0) + distance;
          const at = inputs.map((other, place) => (place === index ? tf.tensor(copy, input.shape) : other));
          return compute(...at).dataSync()[0] ?? Number.NaN;
        };
        const difference = (moved(step) - moved(-step)) / (2 * step);
        largest = Math.max(largest, Math.abs(difference));
        deviation = Math.max(deviation, Math.abs(difference - (gradient[element] ?? Number.NaN)));
      }
      return deviation / largest;
    });
  });
}
