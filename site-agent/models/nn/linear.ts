// A linear layer over the last axis of any tensor.

import { assert } from "@consilium/shared/base/assert.ts";
import { tf } from "../../backend/tensors.ts";
import { addBias } from "./bias.ts";

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
  const rows = x.size / channels;
  const product = tf.matMul(tf.reshape(x, [rows, channels]), weight);
  const sum = addBias(tf.reshape(product, [1, 1, rows, outChannels]), bias);
  return tf.reshape(sum, [...x.shape.slice(0, -1), outChannels] as tf.ShapeMap[Rank]); // As many axes as x.
}

/** Linear layers with a ReLU between any two of them. */
export function multilayerPerceptron<Rank extends tf.Rank>(
  x: tf.Tensor<Rank>,
  layers: readonly LinearWeights[],
): tf.Tensor<Rank> {
  return layers.reduce((value, layer, index) => {
    const next = linear(value, layer);
    return index < layers.length - 1 ? tf.relu(next) : next;
  }, x);
}
