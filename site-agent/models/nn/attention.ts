// Scaled dot-product attention (Vaswani et al. 2017) with its gradient written out. What every query pays to every key is
// kept for the gradient where it is small. Else neither pass keeps it: it is computed for some queries at a time, again in
// the backward pass, so that the memory does not grow with the product of queries and keys.
// G groups (batch times heads, or windows times heads), N queries, M keys, D channels of a head.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { withGradient } from "../../backend/custom-gradient.ts";
import {
  hasKernel,
  runSingleKernel,
  SCALED_SOFTMAX,
  SCALED_SOFTMAX_GRADIENT,
} from "../../backend/fused-kernel.ts";
import { runsGraphs } from "../../backend/graph/graph-compiler.ts";
import { inBranches } from "../../backend/graph/in-branches.ts";
import { expectShape } from "../../backend/shape.ts";
import { tf } from "../../backend/tensors.ts";

/** 32 MiB of scores at a time. */
const SCORES_MAX = 2 ** 23;
/** 8 MiB of shares of attention are kept for the gradient. */
const KEPT_SHARES_MAX = 2 ** 21;

export type AttentionInputs = {
  /** [G, N, D] */
  readonly query: tf.Tensor3D;
  /** [G, M, D] */
  readonly key: tf.Tensor3D;
  /** [G, M, D] */
  readonly value: tf.Tensor3D;
  /** What is added to the products with every key, [G, 1, M]: very much less than 0 hides one. It is constant. */
  readonly hidden?: tf.Tensor3D;
};

type Inputs = { query: tf.Tensor; key: tf.Tensor; value: tf.Tensor };
type Hidden = { hidden?: tf.Tensor };

/**
 * softmax((query key^T + hidden) / sqrt(D)) value.
 * @returns [G, N, D]
 */
export function dotProductAttention({ hidden, ...inputs }: AttentionInputs): tf.Tensor3D {
  const { G = 0, N = 0 } = expectShape(inputs.query, ["G", "N", "D"]);
  const { M = 0, D = 1 } = expectShape(inputs.key, [G, "M", "D"]);
  expectShape(inputs.value, [G, M, D]);
  if (hidden) expectShape(hidden, [G, 1, M]);
  const scale = D ** -0.5;
  // Where the softmax cannot scale on its way, queries are scaled: they are fewer numbers than their products with keys.
  const given = hasKernel(SCALED_SOFTMAX)
    ? { inputs, factor: scale, ...(hidden && { hidden }) }
    : {
        inputs: { ...inputs, query: tf.mul(inputs.query, scale) },
        factor: 1,
        ...(hidden && { hidden: tf.mul(hidden, scale) }),
      };
  const attend = (query: tf.Tensor): tf.Tensor => {
    const asked = { ...given, inputs: { ...given.inputs, query } };
    return G * N * M <= KEPT_SHARES_MAX ? withSharesKept(asked) : inChunks(asked);
  };
  if (G > 1 || !runsGraphs()) return attend(given.inputs.query) as tf.Tensor3D; // The shape of the queries.
  // A single group has no other to run beside it: its queries are parted.
  const rows = tf.reshape(given.inputs.query, [N, D]);
  const found = inBranches({ rows }, N, ({ rows: some }) => {
    const count = some?.shape[0] ?? 0;
    return { attended: tf.reshape(attend(tf.reshape(some as tf.Tensor, [1, count, D])), [count, D]) };
  });
  return tf.reshape(expectDefined(found["attended"], "attended rows"), [1, N, D]);
}

type Scaled = {
  readonly inputs: Inputs;
  /** Of products, that is still missing. */
  readonly factor: number;
  readonly hidden?: tf.Tensor;
};

/** Every gradient by itself: of keys and values that are constant, like memories of other frames, nobody asks for one. */
function withSharesKept({ inputs, factor, hidden }: Scaled): tf.Tensor {
  return withGradient<Inputs, Inputs & { shares: tf.Tensor }>(inputs, {
    forward: (given) => {
      const shares = weights(given.query, given.key, { factor, ...(hidden && { hidden }) });
      return { value: tf.matMul(shares, given.value), kept: { ...given, shares } };
    },
    backward: (dy, { query, key, value, shares }) => {
      const score = (): tf.Tensor => scaledSoftmaxGradient(shares, tf.matMul(dy, value, false, true), factor);
      return {
        query: () => tf.matMul(score(), key),
        key: () => tf.matMul(score(), query, true),
        value: () => tf.matMul(shares, dy, true),
      };
    },
  });
}

function inChunks({ inputs, factor, hidden }: Scaled): tf.Tensor {
  const options = { factor, ...(hidden && { hidden }) };
  return withGradient<Inputs, Inputs & Hidden>(inputs, {
    forward: ({ query, key, value }) => {
      const parts = queryChunks({ query, key }).map(([start, count]) =>
        tf.tidy(() => tf.matMul(weights(someOf(query, start, count), key, options), value)),
      );
      return { value: joined(parts), kept: { query, key, value, ...(hidden && { hidden }) } };
    },
    backward: (dy, kept) => gradients(dy, kept, factor),
  });
}

/** Runs of queries whose scores fit into the bound together. */
function queryChunks({ query, key }: Pick<Inputs, "query" | "key">): [start: number, count: number][] {
  const [groups = 1, queries = 1] = query.shape;
  const size = Math.max(1, Math.floor(SCORES_MAX / (groups * (key.shape[1] ?? 1))));
  const starts = Array.from({ length: Math.ceil(queries / size) }, (_, index) => index * size);
  return starts.map((start) => [start, Math.min(size, queries - start)]);
}

/** [G, count, D] of [G, N, D], and all of it without a copy. */
function someOf(x: tf.Tensor, start: number, count: number): tf.Tensor {
  const [groups = 1, length = 1, channels = 1] = x.shape;
  return count === length ? x : tf.slice(x, [0, start, 0], [groups, count, channels]);
}

/** [G, count, M] of queries [G, count, D] */
function weights(queries: tf.Tensor, key: tf.Tensor, { factor, hidden }: Omit<Scaled, "inputs">): tf.Tensor {
  const products = tf.matMul(queries, key, false, true);
  const x = hidden ? tf.add(products, hidden) : products;
  return factor === 1 ? tf.softmax(x) : runSingleKernel(SCALED_SOFTMAX, { x }, { factor });
}

/** @param y what it gave */
function scaledSoftmaxGradient(y: tf.Tensor, dy: tf.Tensor, factor: number): tf.Tensor {
  if (hasKernel(SCALED_SOFTMAX_GRADIENT))
    return runSingleKernel(SCALED_SOFTMAX_GRADIENT, { y, dy }, { factor });
  const mean = tf.sum(tf.mul(y, dy), -1, true);
  const gradient = tf.mul(y, tf.sub(dy, mean));
  return factor === 1 ? gradient : tf.mul(gradient, factor);
}

function joined(parts: tf.Tensor[]): tf.Tensor {
  const [first] = parts;
  return first && parts.length === 1 ? first : tf.concat(parts, 1);
}

function gradients(dy: tf.Tensor, kept: Inputs & Hidden, factor: number): Inputs {
  const queryGradients: tf.Tensor[] = [];
  let [key, value]: (tf.Tensor | undefined)[] = [];
  for (const [start, count] of queryChunks(kept)) {
    const part = tf.tidy(() => {
      const [queries, output] = [someOf(kept.query, start, count), someOf(dy, start, count)];
      const { key: keys, hidden } = kept;
      const probability = weights(queries, keys, { factor, ...(hidden && { hidden }) });
      const direct = tf.matMul(output, kept.value, false, true);
      const score = scaledSoftmaxGradient(probability, direct, factor);
      return {
        query: tf.matMul(score, kept.key),
        key: tf.matMul(score, queries, true),
        value: tf.matMul(probability, output, true),
      };
    });
    queryGradients.push(part.query);
    [key, value] = [sumOf(key, part.key), sumOf(value, part.value)];
  }
  return { query: joined(queryGradients), key: sumOf(key), value: sumOf(value) };
}

/** Of one or both, in place of both. */
function sumOf(sum: tf.Tensor | undefined, part?: tf.Tensor): tf.Tensor {
  if (!sum || !part) return expectDefined(sum ?? part, "a sum of something");
  const total = tf.add(sum, part);
  tf.dispose([sum, part]);
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
