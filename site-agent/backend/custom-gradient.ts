// A function of tensors whose gradient is written out, with types. It enters the engine where the framework's own
// `customGrad` does, which computes the gradient of every input: of frozen weights nobody asks for one.

import { tf } from "./tensors.ts";

type Save = (tensors: tf.Tensor[]) => void;

/** The way by which the framework records its own functions. It types it as its own. */
type Engine = {
  runKernelFunc(run: {
    readonly inputs: tf.NamedTensorMap;
    readonly forwardFunc: (backend: unknown, save: Save) => tf.Tensor;
    readonly backwardsFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => Record<string, () => tf.Tensor>;
  }): tf.Tensor;
};

/** Computed with the others, or by itself once it is asked for. */
export type Gradient = tf.Tensor | (() => tf.Tensor);

export type GradientPair<Inputs extends tf.NamedTensorMap, Kept extends tf.NamedTensorMap> = {
  /** The value, and the tensors that the gradient will need. */
  readonly forward: (inputs: Inputs) => { readonly value: tf.Tensor; readonly kept: Kept };
  /** The gradient for every input, under the input's name. */
  readonly backward: (dy: tf.Tensor, kept: Kept) => { readonly [Name in keyof Inputs]: Gradient };
};

/** The value of `forward`; what `forward` computes is not recorded for differentiation. */
export function withGradient<Inputs extends tf.NamedTensorMap, Kept extends tf.NamedTensorMap>(
  inputs: Inputs,
  { forward, backward }: GradientPair<Inputs, Kept>,
): tf.Tensor {
  const engine = tf.engine() as unknown as Engine; // See there.
  let keptNames: string[] = [];
  return engine.runKernelFunc({
    inputs,
    forwardFunc: (_, save) => {
      const { value, kept } = forward(inputs);
      keptNames = Object.keys(kept);
      save(Object.values(kept));
      return value;
    },
    backwardsFunc: (dy, saved) => {
      const kept = Object.fromEntries(keptNames.map((name, index) => [name, saved[index]]));
      // The framework would free what is computed on the way only when the whole backward pass has ended.
      const gradients = tf.tidy(() => backward(dy, kept as Kept) as tf.NamedTensorMap); // Tensors are kept, functions pass.
      const asked = (name: string) => (): tf.Tensor => {
        const gradient: Gradient = gradients[name] as Gradient; // One for every input.
        return typeof gradient === "function" ? tf.tidy(gradient) : gradient;
      };
      return Object.fromEntries(Object.keys(inputs).map((name) => [name, asked(name)]));
    },
  });
}
