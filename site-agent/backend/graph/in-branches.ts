// A batch whose samples have nothing to do with each other, computed part by part. In a graph every part is a branch of its
// own: branches run on different processors, which then wait for each other once a batch and not at every operation.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { joinedRows } from "../joined-rows.ts";
import { tf } from "../tensors.ts";
import { graphBranches } from "./graph-compiler.ts";

/**
 * @param batch   tensors whose first axis is that of the samples, or some rows for every sample
 * @param count   of samples
 * @param compute of tensors as they are given, for fewer samples
 * @returns what it gives, of all samples
 */
export function inBranches(
  batch: tf.NamedTensorMap,
  count: number,
  compute: (part: tf.NamedTensorMap) => tf.NamedTensorMap,
): tf.NamedTensorMap {
  const branches = Math.min(graphBranches(), count);
  if (branches < 2) return compute(batch);
  const starts = Array.from({ length: branches + 1 }, (_, part) => Math.floor((part * count) / branches));
  const sizes = starts.slice(1).map((end, part) => end - (starts[part] ?? 0));
  const split = Object.entries(batch).map(([name, tensor]) => {
    const rows = (tensor.shape[0] ?? 0) / count;
    const parts = tf.split(
      tensor,
      sizes.map((size) => size * rows),
      0,
    );
    return [name, parts] as const;
  });
  const found = sizes.map((_, part) =>
    compute(Object.fromEntries(split.map(([name, parts]) => [name, expectDefined(parts[part], name)]))),
  );
  return joinedRows(found);
}
