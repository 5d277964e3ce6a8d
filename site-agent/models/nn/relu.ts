// The rectified linear unit. The framework's own gradient asks a step function, which tfjs-node composes of seven operations
// and of constants as large as the tensor, and keeps what came in, which nobody else needs.

import { withGradient } from "../../backend/custom-gradient.ts";
import { hasKernel, RELU_GRADIENT, runSingleKernel } from "../../backend/fused-kernel.ts";
import { tf } from "../../backend/tensors.ts";

/** @param x of any shape, float32 */
export function relu<Rank extends tf.Rank>(x: tf.Tensor<Rank>): tf.Tensor<Rank> {
  const value = withGradient(
    { x: x as tf.Tensor }, // A wider type, as the pair below takes and gives.
    {
      forward: (given) => {
        const y = tf.relu(given.x);
        return { value: y, kept: { y } };
      },
      backward: (dy, { y }) => ({
        x: hasKernel(RELU_GRADIENT) ? runSingleKernel(RELU_GRADIENT, { y, dy }) : tf.mul(dy, tf.step(y)),
      }),
    },
  );
  return value as tf.Tensor<Rank>; // The shape of x.
}
