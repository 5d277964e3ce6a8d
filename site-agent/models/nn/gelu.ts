// The Gaussian error linear unit in its exact form, x * Phi(x) (Hendrycks and Gimpel 2016), with its gradient written
// out, so that only x is kept for it.

import { withGradient } from "../../backend/custom-gradient.ts";
import { GELU, GELU_GRADIENT, hasKernel, runSingleKernel } from "../../backend/fused-kernel.ts";
import { tf } from "../../backend/tensors.ts";

const ROOT_HALF = Math.SQRT1_2;
/** Of the density of the normal distribution. */
const DENSITY_FACTOR = 1 / Math.sqrt(2 * Math.PI);

/** @param x of any shape, float32 */
export function gelu<Rank extends tf.Rank>(x: tf.Tensor<Rank>): tf.Tensor<Rank> {
  const value = withGradient(
    { x: x as tf.Tensor }, // A wider type, as the pair below takes and gives.
    {
      forward: (given) => ({
        value: hasKernel(GELU) ? runSingleKernel(GELU, given) : tf.mul(given.x, distribution(given.x)),
        kept: given,
      }),
      backward: (dy, kept) =>
        tf.tidy(() => {
          if (hasKernel(GELU_GRADIENT)) return { x: runSingleKernel(GELU_GRADIENT, { ...kept, dy }) };
          const density = tf.mul(tf.exp(tf.mul(tf.square(kept.x), -0.5)), DENSITY_FACTOR);
          return { x: tf.mul(dy, tf.add(distribution(kept.x), tf.mul(kept.x, density))) };
        }),
    },
  );
  return value as tf.Tensor<Rank>; // The shape of x.
}

/** Phi, the normal distribution function. */
function distribution(x: tf.Tensor): tf.Tensor {
  return tf.mul(tf.add(tf.erf(tf.mul(x, ROOT_HALF)), 1), 0.5);
}
