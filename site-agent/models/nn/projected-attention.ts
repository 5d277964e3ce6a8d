// Attention of one sequence to another between linear projections: SAM's attention layer. The width inside may be smaller
// than the model's. B batch, N queries, M keys, C channels of the model.

import type { tf } from "../../backend/tensors.ts";
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
  { query, key, value }: Sequences,
  part: ModelPart,
  { headCount, turnQueries = unchanged, turnKeys = unchanged }: AttentionOptions,
): tf.Tensor3D {
  const heads = (x: tf.Tensor3D, name: string) => splitHeads(linear(x, part.linear(name)), headCount);
  const attended = dotProductAttention({
    query: turnQueries(heads(query, "q_proj")),
    key: turnKeys(heads(key, "k_proj")),
    value: heads(value, "v_proj"),
  });
  return linear(mergeHeads(attended, headCount), part.linear("out_proj"));
}

function unchanged(heads: tf.Tensor3D): tf.Tensor3D {
  return heads;
}
