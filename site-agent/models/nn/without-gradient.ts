// A computation through which no gradient flows: choices by comparison, whose derivative is zero where it exists. The
// framework has no such operation and fails at the first comparison on the way.

import { withGradient } from "../../backend/custom-gradient.ts";
import { tf } from "../../backend/tensors.ts";

/** The value of `compute`; the gradient of every input is zero. */
export function withoutGradient<Inputs extends tf.NamedTensorMap>(
  inputs: Inputs,
  compute: (inputs: Inputs) => tf.Tensor,
): tf.Tensor {
  return withGradient<Inputs, Inputs>(inputs, {
    forward: (given) => ({ value: compute(given), kept: given }),
    backward: (_, kept) => {
      const zeros = Object.entries(kept).map(([name, tensor]) => [name, tf.zerosLike(tensor)]);
      return Object.fromEntries(zeros) as Inputs; // One for every input.
    },
  });
}
