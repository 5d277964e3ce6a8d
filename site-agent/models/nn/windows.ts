// An image cut into square windows and put together again. Rows and columns that are missing to whole windows are zeros
// at the bottom and on the right; attention sees them like any other pixel.
// B batch, H W spatial, C channels, S side of a window, V windows of one image. Layout is NHWC throughout.

import { BackendError } from "../../backend/backend-error.ts";
import { expectShape } from "../../backend/shape.ts";
import { tf } from "../../backend/tensors.ts";

type Size2 = readonly [height: number, width: number];

/**
 * @param image [B, H, W, C]
 * @returns [B * V, S, S, C]
 */
export function partitionWindows(image: tf.Tensor4D, side: number): tf.Tensor4D {
  const [batch, height, width, channels] = image.shape;
  const [rows, columns] = [Math.ceil(height / side), Math.ceil(width / side)];
  const [bottom, right] = [rows * side - height, columns * side - width];
  const padded =
    bottom + right === 0 ? image : tf.pad(image, [NO_MARGIN, [0, bottom], [0, right], NO_MARGIN]);
  const grid = tf.reshape(padded, [batch, rows, side, columns, side, channels]);
  return tf.reshape(tf.transpose(grid, [0, 1, 3, 2, 4, 5]), [batch * rows * columns, side, side, channels]);
}

/**
 * The image of which these are the windows.
 * @param windows [B * V, S, S, C]
 * @param size height and width of the image
 * @returns [B, H, W, C]
 * @throws BackendError where the number of windows is not that of the image
 */
export function joinWindows(windows: tf.Tensor4D, batch: number, [height, width]: Size2): tf.Tensor4D {
  const { S = 1, C = 1 } = expectShape(windows, ["V", "S", "S", "C"]);
  const [rows, columns] = [Math.ceil(height / S), Math.ceil(width / S)];
  if (windows.shape[0] !== batch * rows * columns) {
    const message = `An image of ${height} x ${width} has no ${windows.shape[0]} windows of ${S} pixels: choose another window or image size.`;
    throw new BackendError("backend.unsupported-shape", message);
  }
  const grid = tf.reshape(windows, [batch, rows, columns, S, S, C]);
  const image = tf.reshape(tf.transpose(grid, [0, 1, 3, 2, 4, 5]), [batch, rows * S, columns * S, C]);
  const whole = rows * S === height && columns * S === width;
  return (whole ? image : tf.slice(image, [0, 0, 0, 0], [batch, height, width, C])) as tf.Tensor4D; // Four axes.
}

const NO_MARGIN: [number, number] = [0, 0];
