// The largest of every two by two pixels. TensorFlow's gradient of its own pooling looks for each maximum anew, pixel by
// pixel: in graphs the pixels are compared as whole images, whose gradients are products.

import { runsGraphs } from "../../backend/graph/graph-compiler.ts";
import { tf } from "../../backend/tensors.ts";

const SIDE = 2;

/** @param image [B, H, W, C] float32 @returns [B, H / 2, W / 2, C], rounded down */
export function maxPoolByTwo(image: tf.Tensor4D): tf.Tensor4D {
  const [batch, height, width, channels] = image.shape;
  if (!runsGraphs() || height % SIDE !== 0 || width % SIDE !== 0)
    return tf.maxPool(image, SIDE, SIDE, "valid");
  const [rows, columns] = [height / SIDE, width / SIDE];
  const [above, below] = halves(tf.reshape(image, [batch * rows, SIDE, columns * SIDE * channels]), 1);
  const larger = tf.maximum(above, below);
  const [left, right] = halves(tf.reshape(larger, [batch * rows * columns, SIDE, channels]), 1);
  return tf.reshape(tf.maximum(left, right), [batch, rows, columns, channels]);
}

function halves(image: tf.Tensor, axis: number): [tf.Tensor, tf.Tensor] {
  return tf.split(image, SIDE, axis) as [tf.Tensor, tf.Tensor]; // Two, as asked for.
}
