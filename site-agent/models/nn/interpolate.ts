// Resizing of maps as two products with matrices, which is exact in value and gradient on every backend and for every
// size. The matrices are PyTorch's, without aligned corners: bilinear, bilinear with antialiasing, bicubic (a = -0.75).

import { tf } from "../../backend/tensors.ts";

export type Interpolation = "bilinear" | "bilinear-antialias" | "bicubic";
type Size2 = readonly [height: number, width: number];

/**
 * @param maps [N, h, w] float32
 * @returns [N, H, W]
 */
export function resizeMaps(maps: tf.Tensor3D, [height, width]: Size2, kind: Interpolation): tf.Tensor3D {
  const [count, rows, columns] = maps.shape;
  if (rows === height && columns === width) return maps;
  const wide = tf.matMul(tf.reshape(maps, [count * rows, columns]), weightMatrix(columns, width, kind));
  const turned = tf.transpose(tf.reshape(wide, [count, rows, width]), [0, 2, 1]);
  const whole = tf.matMul(tf.reshape(turned, [count * width, rows]), weightMatrix(rows, height, kind));
  return tf.transpose(tf.reshape(whole, [count, width, height]), [0, 2, 1]);
}

/** [from, to] */
function weightMatrix(from: number, to: number, kind: Interpolation): tf.Tensor2D {
  return tf.tensor2d(interpolationWeights(from, to, kind), [from, to]);
}

/** The share of every old place in every new one, [from, to]; shares of one new place add up to 1. */
export function interpolationWeights(from: number, to: number, kind: Interpolation): Float32Array {
  const weights = new Float64Array(from * to);
  const scale = from / to;
  for (let place = 0; place < to; place += 1) {
    for (const [source, weight] of shares[kind]((place + 0.5) * scale, scale, from)) {
      // Places beyond the border count for the border.
      const inside = Math.min(from - 1, Math.max(0, source));
      weights[inside * to + place] = (weights[inside * to + place] ?? 0) + weight;
    }
  }
  return Float32Array.from(weights);
}

/** Shares of old places around `centre`, which is measured from the edge of the first one. */
type Shares = (centre: number, scale: number, from: number) => [source: number, weight: number][];

const CUBIC_A = -0.75;

const shares: Readonly<Record<Interpolation, Shares>> = {
  bilinear(centre) {
    const position = Math.max(0, centre - 0.5);
    const first = Math.floor(position);
    return [
      [first, first + 1 - position],
      [first + 1, position - first],
    ];
  },
  bicubic(centre) {
    const first = Math.floor(centre - 0.5);
    return [-1, 0, 1, 2].map((step) => [first + step, cubic(Math.abs(centre - 0.5 - first - step))]);
  },
  "bilinear-antialias"(centre, scale, from) {
    const support = Math.max(1, scale);
    const first = Math.max(0, Math.floor(centre - support + 0.5));
    const end = Math.min(from, Math.floor(centre + support + 0.5));
    const raw = Array.from({ length: end - first }, (_, index): [number, number] => {
      const distance = Math.abs(first + index + 0.5 - centre) / support;
      return [first + index, Math.max(0, 1 - distance)];
    });
    const sum = raw.reduce((total, [, weight]) => total + weight, 0);
    return raw.map(([source, weight]) => [source, weight / sum]);
  },
};

/** Keys' cubic convolution at a distance below 2. */
function cubic(distance: number): number {
  if (distance <= 1) return ((CUBIC_A + 2) * distance - (CUBIC_A + 3)) * distance ** 2 + 1;
  return ((CUBIC_A * distance - 5 * CUBIC_A) * distance + 8 * CUBIC_A) * distance - 4 * CUBIC_A;
}
