// A linear layer over the last axis of any tensor. It is one entry in the engine's record with a gradient of its own, not
// four: a model of many small layers spends as much on its record as on its numbers.

import { assert } from "@consilium/shared/base/assert.ts";
import { withGradient } from "../../backend/custom-gradient.ts";
import { runsGraphs } from "../../backend/graph/graph-compiler.ts";
import { tf } from "../../backend/tensors.ts";
import { addBias, channelSums } from "./bias.ts";
import { relu } from "./relu.ts";

export type LinearWeights = {
  /** [C, K] */
  readonly weight: tf.Tensor2D;
  /** [K] */
  readonly bias: tf.Tensor1D;
};

/**
 * @param x [..., C] float32
 * @returns [..., K]
 */
export function linear<Rank extends tf.Rank>(
  x: tf.Tensor<Rank>,
  { weight, bias }: LinearWeights,
): tf.Tensor<Rank> {
  const [channels, outChannels] = weight.shape;
  assert(x.shape.at(-1) === channels, `a linear layer of ${channels} channels has an input of [${x.shape}]`);
  const shape = [...x.shape.slice(0, -1), outChannels];
  const value = withGradient<Record<"x" | "weight" | "bias", tf.Tensor>, Record<"x" | "weight", tf.Tensor>>(
    { x, weight, bias },
    {
      forward: () => {
        const product = tf.matMul(rowsOf(x), weight);
        const sum = addBias(tf.reshape(product, [1, 1, x.size / channels, outChannels]), bias);
        return { value: tf.reshape(sum, shape), kept: { x, weight } };
      },
      backward: (dy, kept) => ({
        x: () => tf.reshape(timesTransposed(rowsOf(dy), kept.weight as tf.Tensor2D), kept.x.shape), // As kept.
        weight: () => tf.matMul(rowsOf(kept.x), rowsOf(dy), true),
        bias: () => channelSums(dy),
      }),
    },
  );
  return value as tf.Tensor<Rank>; // As many axes as x.
}

/** [rows, K] times the transposed [C, K]: [rows, C] */
function timesTransposed(rows: tf.Tensor2D, weight: tf.Tensor2D): tf.Tensor2D {
  if (!runsGraphs() || rows.shape[0] > FEW_ROWS) return tf.matMul(rows, weight, false, true);
  return tf.transpose(tf.matMul(weight, rows, false, true));
}

/** The layer without its bias: x [B, H, W, C] float32 -> [B, H, W, K] */
export function product(x: tf.Tensor4D, weight: tf.Tensor2D): tf.Tensor4D {
  const [batch, height, width] = x.shape;
  return tf.reshape(tf.matMul(rowsOf(x), weight), [batch, height, width, weight.shape[1]]);
}

/** TensorFlow takes twice as long for so many rows, on the left of a transposed matrix, as for the same with both sides exchanged. */
const FEW_ROWS = 256;

/** [..., C] -> [rows, C] */
function rowsOf(x: tf.Tensor): tf.Tensor2D {
  const channels = x.shape.at(-1) ?? 1;
  return tf.reshape(x, [x.size / channels, channels]);
}

/** Linear layers with a ReLU between any two of them. */
export function multilayerPerceptron<Rank extends tf.Rank>(
  x: tf.Tensor<Rank>,
  layers: readonly LinearWeights[],
): tf.Tensor<Rank> {
  return layers.reduce((value, layer, index) => {
    const next = linear(value, layer);
    return index < layers.length - 1 ? relu(next) : next;
  }, x);
}
