// Axial rotary positions (Su et al. 2021 in two dimensions, as in SAM 2): neighbouring channels are a complex number that
// is turned by an angle; the first half of the pairs turns with the column, the second with the row.
// G groups, N tokens, D channels of a head.

import { assert } from "@consilium/shared/base/assert.ts";
import { withGradient } from "../../backend/custom-gradient.ts";
import { tf } from "../../backend/tensors.ts";

export type RotaryGrid = {
  readonly columns: number;
  readonly rows: number;
  /** Channels of a head; a multiple of four. */
  readonly channels: number;
  readonly theta: number;
};

/** Angles of every token of the grid, a row of the grid after the other: [rows * columns, channels / 2]. */
export function rotaryAngles({ columns, rows, channels, theta }: RotaryGrid): Float64Array {
  assert(channels % 4 === 0, "half of the pairs turn with the column, half with the row");
  const quarter = channels / 4;
  const angles = new Float64Array(rows * columns * 2 * quarter);
  for (let token = 0; token < rows * columns; token += 1) {
    for (let index = 0; index < quarter; index += 1) {
      const frequency = theta ** ((-4 * index) / channels);
      angles[token * 2 * quarter + index] = (token % columns) * frequency;
      angles[token * 2 * quarter + quarter + index] = Math.floor(token / columns) * frequency;
    }
  }
  return angles;
}

/** Cosine of every angle, and its sine with the sign that each of two channels takes: both [N, D]. */
export type RotaryTable = { readonly cosine: tf.Tensor2D; readonly sine: tf.Tensor2D };

export function rotaryTable(grid: RotaryGrid): RotaryTable {
  const { cosine, sine } = tableNumbers(grid);
  const shape: [number, number] = [grid.rows * grid.columns, grid.channels];
  return { cosine: tf.tensor2d(cosine, shape), sine: tf.tensor2d(sine, shape) };
}

type TableNumbers = { readonly cosine: Float32Array; readonly sine: Float32Array };

/** Every layer asks for the same few grids, again and again. */
const GRIDS_KEPT_MAX = 8;
const kept = new Map<string, TableNumbers>();

function tableNumbers(grid: RotaryGrid): TableNumbers {
  const key = [grid.columns, grid.rows, grid.channels, grid.theta].join();
  const known = kept.get(key);
  if (known) return known;
  const angles = rotaryAngles(grid);
  const [cosine, sine] = [new Float32Array(2 * angles.length), new Float32Array(2 * angles.length)];
  angles.forEach((angle, index) => {
    cosine.fill(Math.cos(angle), 2 * index, 2 * index + 2);
    sine[2 * index] = -Math.sin(angle);
    sine[2 * index + 1] = Math.sin(angle);
  });
  if (kept.size >= GRIDS_KEPT_MAX) kept.clear();
  kept.set(key, { cosine, sine });
  return { cosine, sine };
}

/**
 * Every token turned by its angles.
 * @param x     [G, L, D], L tokens of whole grids one behind the other
 * @param table of one grid
 */
export function rotate(x: tf.Tensor3D, table: RotaryTable): tf.Tensor3D {
  const grids: tf.Tensor3D = tf.reshape(x, [-1, ...table.cosine.shape]);
  return tf.reshape(rotatedGrids(grids, table), x.shape);
}

function rotatedGrids(x: tf.Tensor3D, { cosine, sine }: RotaryTable): tf.Tensor3D {
  const turned = withGradient(
    { x: x as tf.Tensor }, // A wider type, as the pair below takes and gives.
    {
      forward: (given) => ({
        value: tf.add(tf.mul(given.x, cosine), tf.mul(swapPairs(given.x), sine)),
        kept: { cosine, sine },
      }),
      // A rotation is undone by the rotation back: the sines lie at the swapped places.
      backward: (dy, kept) => ({
        x: tf.tidy(() => tf.add(tf.mul(dy, kept.cosine), swapPairs(tf.mul(dy, kept.sine)))),
      }),
    },
  );
  return turned as tf.Tensor3D; // The shape of x.
}

function swapPairs(x: tf.Tensor): tf.Tensor {
  const pairs = tf.reshape(x, [-1, 2]);
  return tf.reshape(tf.reverse(pairs, 1), x.shape);
}
