// A part of a model that keeps nothing but its inputs for the backward pass and computes itself again there (Chen et al.
// 2016). Time for memory: one more forward pass, and what a gradient needs of one part at a time.

import { assert } from "@consilium/shared/base/assert.ts";
import { withGradient } from "../../backend/custom-gradient.ts";
import { runsGraphs } from "../../backend/graph/graph-compiler.ts";
import { tf } from "../../backend/tensors.ts";

export type Recomputation = {
  /** Activations; they are kept. */
  readonly inputs: tf.NamedTensorMap;
  /** The tensors that training changes and `compute` uses without being given them; they outlive the step. */
  readonly parameters: readonly tf.Tensor[];
};

/** The engine's record of the computation that is being differentiated. */
type TapeState = { readonly state: { activeTape: unknown } };

/**
 * The value of `compute`, whose gradients reach the inputs and the listed parameters and nothing else.
 * `compute` must give the same value every time.
 */
export function recomputed<T extends tf.Tensor>(
  { inputs, parameters }: Recomputation,
  compute: (inputs: tf.NamedTensorMap) => T,
): T {
  const names = Object.keys(inputs);
  const listed = Object.fromEntries(parameters.map((tensor, index) => [`parameter ${index}`, tensor]));
  const value = withGradient<tf.NamedTensorMap, tf.NamedTensorMap>(
    { ...inputs, ...listed },
    {
      forward: (given) => {
        const own = Object.fromEntries(names.map((name) => [name, given[name] as tf.Tensor])); // Given above.
        return { value: compute(own), kept: own };
      },
      backward: (dy, kept) => {
        const held = runsGraphs() ? heldUntil(dy, kept) : kept;
        const activations = names.map((name) => held[name] as tf.Tensor); // Kept above.
        const gradients = differentiate(() => compute(held), [...activations, ...parameters], dy);
        const keys = [...names, ...Object.keys(listed)];
        return Object.fromEntries(keys.map((key, index) => [key, gradients[index] as tf.Tensor])); // One each.
      },
    },
  );
  return value as T; // What compute gives.
}

/**
 * The same tensors, which a graph cannot have before `dy`. TensorFlow carries out what it can as soon as it can, and takes
 * two equal computations for one: a second forward pass that waits for nothing would run beside the first, or not at all.
 */
function heldUntil(dy: tf.Tensor, tensors: tf.NamedTensorMap): tf.NamedTensorMap {
  // Nothing, in a form that is not known to be nothing before it has been computed.
  const nothing = tf.minimum(tf.abs(tf.slice(tf.reshape(dy, [dy.size]), 0, 1)), 0);
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, tf.add(tensor, nothing)]));
}

/**
 * Gradients within a backward pass. The engine has one tape and forgets the outer one when an inner computation has been
 * differentiated, and with it what the outer one has to dispose: it is put back here.
 */
function differentiate(compute: () => tf.Tensor, tensors: tf.Tensor[], dy: tf.Tensor): tf.Tensor[] {
  const engine = tf.engine();
  const tape = engine as unknown as TapeState; // The framework keeps the tape to itself.
  assert("activeTape" in tape.state, "the engine has a tape");
  const outer = tape.state.activeTape;
  try {
    const { value, grads } = engine.gradients(compute, tensors, dy, true);
    value.dispose();
    return tensors.map((tensor, index) => grads[index] ?? tf.zerosLike(tensor));
  } finally {
    tape.state.activeTape = outer;
  }
}
