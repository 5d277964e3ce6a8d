// A function of tensors whose gradient is written out, with types: the framework passes its arguments and saved tensors
// by position and types neither.

import { tf } from "./tensors.ts";

type Save = (tensors: tf.Tensor[]) => void;

export type GradientPair<Inputs extends tf.NamedTensorMap, Kept extends tf.NamedTensorMap> = {
  /** The value, and the tensors that the gradient will need. */
  readonly forward: (inputs: Inputs) => { readonly value: tf.Tensor; readonly kept: Kept };
  /** The gradient for every input, under the input's name. */
  readonly backward: (dy: tf.Tensor, kept: Kept) => { readonly [Name in keyof Inputs]: tf.Tensor };
};

/** The value of `forward`; what `forward` computes is not recorded for differentiation. */
export function withGradient<Inputs extends tf.NamedTensorMap, Kept extends tf.NamedTensorMap>(
  inputs: Inputs,
  { forward, backward }: GradientPair<Inputs, Kept>,
): tf.Tensor {
  const names = Object.keys(inputs);
  const custom = tf.customGrad((...given) => {
    const save = given[names.length] as Save; // The framework passes it behind the tensors.
    const named = Object.fromEntries(names.map((name, index) => [name, given[index]]));
    const { value, kept } = forward(named as Inputs); // The inputs under their own names.
    const keptNames = Object.keys(kept);
    save(Object.values(kept));
    const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]) => {
      const entries = keptNames.map((name, index) => [name, saved[index]]);
      // The framework would free what is computed on the way only when the whole backward pass has ended.
      return tf.tidy(() => {
        const gradients = backward(dy, Object.fromEntries(entries) as Kept); // As kept above.
        return names.map((name) => gradients[name] as tf.Tensor); // One for every input.
      });
    };
    return { value, gradFunc };
  });
  return custom(...Object.values(inputs));
}
