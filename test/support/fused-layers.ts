// The layers that have fused kernels on more than one backend, for every rest of a vector: on the running backend they give
// what composed operations give on the framework's plain cpu backend.

import type { Test } from "tap";
import { tf } from "../../site-agent/backend/tensors.ts";
import { dotProductAttention } from "../../site-agent/models/nn/attention.ts";
import { gelu } from "../../site-agent/models/nn/gelu.ts";
import { instanceNorm } from "../../site-agent/models/nn/instance-norm.ts";
import { layerNorm } from "../../site-agent/models/nn/layer-norm.ts";
import { relu } from "../../site-agent/models/nn/relu.ts";
import { expectSame, tensor } from "./same-on-cpu.ts";

export type Layer = (...inputs: tf.Tensor[]) => tf.Tensor;

/** What it gives, and the gradients of all that it is given, each number of its result weighted differently. */
export function withGradients(layer: Layer, inputs: tf.Tensor[]): tf.Tensor[] {
  const value = layer(...inputs);
  const weights = tensor("dy", value.shape);
  const weighted = (...given: tf.Tensor[]): tf.Tensor => tf.sum(tf.mul(layer(...given), weights));
  return [value, ...tf.grads(weighted)(inputs)];
}

export async function expectFusedLayers(t: Test): Promise<void> {
  await expectLayerNorms(t);
  await expectInstanceNorms(t);
  expectPreciseSums(t);
  await expectAttention(t);
  for (const count of [1, 2, 3, 4, 5, 31, 64]) {
    const x = (): tf.Tensor[] => [tensor(`x ${count}`, [count], 6)];
    await expectSame(
      t,
      `GELU of ${count} numbers`,
      () => withGradients((given) => gelu(given as tf.Tensor), x()),
      2e-6,
    );
    // On cpu the framework's own, whose gradient is another one.
    const rectified: Layer = (given) => (tf.getBackend() === "cpu" ? tf.relu : relu)(given as tf.Tensor);
    await expectSame(t, `ReLU of ${count} numbers`, () => withGradients(rectified, x()));
  }
}

/** Over several runs of rows, within which sums are of single precision. */
async function expectLayerNorms(t: Test): Promise<void> {
  for (const shape of [
    [1, 4],
    [3, 8],
    [2, 5, 7, 12],
    [129, 20],
    [64, 64],
    [2, 3, 6],
  ]) {
    const channels = shape.at(-1) ?? 1;
    const norm: Layer = (x, gamma, beta) =>
      layerNorm(x as tf.Tensor, { gamma: gamma as tf.Tensor1D, beta: beta as tf.Tensor1D }, 1e-5); // As below.
    await expectSame(t, `layer norm of [${shape}]`, () => {
      const x = tf.add(tensor("x", shape, 3), 1);
      return withGradients(norm, [x, tensor("gamma", [channels]), tensor("beta", [channels])]);
    });
  }
}

/** With channels for every rest of a vector. */
async function expectInstanceNorms(t: Test): Promise<void> {
  for (const shape of [
    [2, 5, 7, 4],
    [1, 16, 9, 5],
    [3, 8, 8, 6],
    [2, 3, 3, 13],
    [2, 9, 15, 16],
    [1, 2, 2, 3],
    [2, 4, 5, 40],
  ] as const)
    for (const negativeSlope of [0.01, 1]) {
      const norm: Layer = (x, gamma, beta) =>
        instanceNorm(
          x as tf.Tensor4D, // As below.
          { gamma: gamma as tf.Tensor1D, beta: beta as tf.Tensor1D }, // As below.
          { epsilon: 1e-5, negativeSlope },
        );
      await expectSame(t, `instance norm of [${shape}], slope ${negativeSlope}`, () => {
        const x = tf.add(tensor("x", shape, 3), 1);
        return withGradients(norm, [x, tensor("gamma", [shape[3]]), tensor("beta", [shape[3]])]);
      });
    }
}

/** One naive float32 sum over 250,000 pixels near 100 would be off by about 1e-4 of the mean. */
function expectPreciseSums(t: Test): void {
  const values = tf.tidy(() => {
    const x = tf.add(tensor("large", [1, 500, 500, 4]), 100) as tf.Tensor4D; // Four axes.
    const unit = { gamma: tf.ones<tf.Rank.R1>([4]), beta: tf.zeros<tf.Rank.R1>([4]) };
    return instanceNorm(x, unit, { epsilon: 1e-5, negativeSlope: 1 }).dataSync();
  });
  let [sum, squares] = [0, 0];
  for (const value of values) {
    sum += value;
    squares += value ** 2;
  }
  t.ok(Math.abs(sum / values.length) < 1e-5, `mean ${sum / values.length}`);
  t.ok(Math.abs(squares / values.length - 1) < 1e-4, `variance ${squares / values.length}`);
}

async function expectAttention(t: Test): Promise<void> {
  for (const [groups, queries, keys, channels] of [
    [1, 1, 1, 1],
    [2, 3, 5, 8],
    [3, 16, 4, 12],
    [2, 7, 33, 6],
  ] as const) {
    const attend: Layer = (query, key, value) =>
      dotProductAttention({ query, key, value } as Parameters<typeof dotProductAttention>[0]); // As below.
    await expectSame(t, `attention ${groups} ${queries} ${keys} ${channels}`, () => {
      const inputs = [
        tensor("query", [groups, queries, channels], 6),
        tensor("key", [groups, keys, channels], 6),
        tensor("value", [groups, keys, channels]),
      ];
      return withGradients(attend, inputs);
    });
  }
}
