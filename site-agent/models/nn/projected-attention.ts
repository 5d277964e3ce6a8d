// Attention of one sequence to another between linear projections: SAM's attention layer. The width inside may be smaller
// than the model's. B batch, N queries, M keys, C channels of the model.

import { tf } from "../../backend/tensors.ts";
import { dotProductAttention, mergeHeads, splitHeads } from "./attention.ts";
import { linear } from "./linear.ts";
import type { ModelPart } from "./model-part.ts";

export type Sequences = {
  /** [B, N, C] */
  readonly query: tf.Tensor3D;
  /** [B, M, Ck] */
  readonly key: tf.Tensor3D;
  /** [B, M, Ck] */
  readonly value: tf.Tensor3D;
  /** What is added to the attention that a key gets, [B, 1, M]. */
  readonly hidden?: tf.Tensor3D;
};

/** Queries or keys [B * heads, N, D] with their positions turned in. */
export type Turn = (heads: tf.Tensor3D) => tf.Tensor3D;

export type AttentionOptions = {
  readonly headCount: number;
  readonly turnQueries?: Turn;
  readonly turnKeys?: Turn;
};

/** @returns [B, N, C] */
export function projectedAttention(
  { query, key, value, hidden }: Sequences,
  part: ModelPart,
  { headCount, turnQueries = unchanged, turnKeys = unchanged }: AttentionOptions,
): tf.Tensor3D {
  const heads = (x: tf.Tensor3D, name: string) => splitHeads(linear(x, part.linear(name)), headCount);
  const attended = dotProductAttention({
    query: turnQueries(heads(query, "q_proj")),
    key: turnKeys(heads(key, "k_proj")),
    value: heads(value, "v_proj"),
    ...(hidden && { hidden: headCount === 1 ? hidden : ofEveryHead(hidden, headCount) }),
  });
  return linear(mergeHeads(attended, headCount), part.linear("out_proj"));
}

/** [B, 1, M] -> [B * heads, 1, M] */
function ofEveryHead(hidden: tf.Tensor3D, headCount: number): tf.Tensor3D {
  const [batch, , keys] = hidden.shape;
  return tf.reshape(tf.tile(hidden, [1, headCount, 1]), [batch * headCount, 1, keys]);
}

function unchanged(heads: tf.Tensor3D): tf.Tensor3D {
  return heads;
}
