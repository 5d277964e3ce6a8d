// Scaled dot-product attention (Vaswani et al. 2017) with its gradient written out: neither pass keeps the scores. They
// are computed for some queries at a time, again in the backward pass, so that the memory does not grow with the product
// of queries and keys. G groups (batch times heads, or windows times heads), N queries, M keys, D channels of a head.

import { withGradient } from "../../backend/custom-gradient.ts";
import { expectShape } from "../../backend/shape.ts";
import { tf } from "../../backend/tensors.ts";

/** 32 MiB of scores at a time. */
const SCORES_MAX = 2 ** 23;

export type AttentionInputs = {
  /** [G, N, D] */
  readonly query: tf.Tensor3D;
  /** [G, M, D] */
  readonly key: tf.Tensor3D;
  /** [G, M, D] */
  readonly value: tf.Tensor3D;
};

type Inputs = { query: tf.Tensor; key: tf.Tensor; value: tf.Tensor };

/**
 * softmax(query key^T / sqrt(D)) value.
 * @returns [G, N, D]
 */
export function dotProductAttention(inputs: AttentionInputs): tf.Tensor3D {
  const { G = 0 } = expectShape(inputs.query, ["G", "N", "D"]);
  const { M = 0, D = 1 } = expectShape(inputs.key, [G, "M", "D"]);
  expectShape(inputs.value, [G, M, D]);
  const result = withGradient<Inputs, Inputs>(
    { ...inputs },
    {
      forward: (given) => {
        const parts = queryChunks(given).map(([start, count]) =>
          tf.tidy(() => tf.matMul(weights(given, start, count), given.value)),
        );
        return { value: joined(parts), kept: given };
      },
      backward: gradients,
    },
  );
  return result as tf.Tensor3D; // The shape of the queries.
}

/** Runs of queries whose scores fit into the bound together. */
function queryChunks({ query, key }: Inputs): [start: number, count: number][] {
  const [groups = 1, queries = 1] = query.shape;
  const size = Math.max(1, Math.floor(SCORES_MAX / (groups * (key.shape[1] ?? 1))));
  const starts = Array.from({ length: Math.ceil(queries / size) }, (_, index) => index * size);
  return starts.map((start) => [start, Math.min(size, queries - start)]);
}

/** [G, count, D] */
function scaledQueries({ query }: Inputs, start: number, count: number): tf.Tensor {
  const [groups = 1, , channels = 1] = query.shape;
  return tf.mul(tf.slice(query, [0, start, 0], [groups, count, channels]), channels ** -0.5);
}

/** [G, count, M] */
function weights(inputs: Inputs, start: number, count: number): tf.Tensor {
  return tf.softmax(tf.matMul(scaledQueries(inputs, start, count), inputs.key, false, true));
}

function joined(parts: tf.Tensor[]): tf.Tensor {
  const [first] = parts;
  return first && parts.length === 1 ? first : tf.concat(parts, 1);
}

function gradients(dy: tf.Tensor, kept: Inputs): Inputs {
  const [groups = 1, , channels = 1] = dy.shape;
  const queryGradients: tf.Tensor[] = [];
  let [key, value]: (tf.Tensor | undefined)[] = [];
  for (const [start, count] of queryChunks(kept)) {
    const part = tf.tidy(() => {
      const output = tf.slice(dy, [0, start, 0], [groups, count, channels]);
      const probability = weights(kept, start, count);
      const direct = tf.matMul(output, kept.value, false, true);
      const mean = tf.sum(tf.mul(probability, direct), -1, true);
      const score = tf.mul(probability, tf.sub(direct, mean));
      return {
        query: tf.mul(tf.matMul(score, kept.key), channels ** -0.5),
        key: tf.matMul(score, scaledQueries(kept, start, count), true),
        value: tf.matMul(probability, output, true),
      };
    });
    queryGradients.push(part.query);
    [key, value] = [added(key, part.key), added(value, part.value)];
  }
  return { query: joined(queryGradients), key: added(key), value: added(value) };
}

/** The sum, in place of both. */
function added(sum: tf.Tensor | undefined, part?: tf.Tensor): tf.Tensor {
  const terms = [sum, part].filter((term) => term !== undefined);
  const total = tf.addN(terms);
  tf.dispose(terms);
  return total;
}

/** [B, N, H * D] -> [B * H, N, D] */
export function splitHeads(x: tf.Tensor3D, headCount: number): tf.Tensor3D {
  const [batch, length, channels] = x.shape;
  if (headCount === 1) return x;
  const heads = tf.reshape(x, [batch, length, headCount, channels / headCount]);
  return tf.reshape(tf.transpose(heads, [0, 2, 1, 3]), [batch * headCount, length, channels / headCount]);
}

/** [B * H, N, D] -> [B, N, H * D] */
export function mergeHeads(x: tf.Tensor3D, headCount: number): tf.Tensor3D {
  const [groups, length, channels] = x.shape;
  if (headCount === 1) return x;
  const heads = tf.reshape(x, [groups / headCount, headCount, length, channels]);
  return tf.reshape(tf.transpose(heads, [0, 2, 1, 3]), [groups / headCount, length, channels * headCount]);
}
