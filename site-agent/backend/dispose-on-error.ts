// The framework keeps what a gradient will need and forgets it when the computation throws. Here everything that was
// made before the error is disposed, so that an agent survives a step that did not fit into memory.

import { tf } from "./tensors.ts";

/** The engine's method through which every new tensor goes. */
type TensorTracker = { trackTensor: (tensor: tf.Tensor, backend: unknown) => void };

/** The result of `compute`; when it throws, every tensor that it made is disposed and the error goes on. */
export function disposeOnError<T>(compute: () => T): T {
  const engine = tf.engine() as unknown as TensorTracker; // The framework's types leave this method out.
  const track = engine.trackTensor;
  const made: tf.Tensor[] = [];
  engine.trackTensor = (tensor, backend) => {
    made.push(tensor);
    track.call(engine, tensor, backend);
  };
  try {
    return compute();
  } catch (error) {
    for (const tensor of made) if (!tensor.isDisposed) tensor.dispose();
    throw error;
  } finally {
    engine.trackTensor = track;
  }
}
