// Batches under names, one behind another.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { tf } from "./tensors.ts";

/** @param parts one at least, of the same names @returns of every name the tensors of all parts, joined along their first axis */
export function joinedRows(parts: readonly tf.NamedTensorMap[]): tf.NamedTensorMap {
  const names = Object.keys(expectDefined(parts[0], "a part"));
  const joined = names.map((name) => {
    const tensors = parts.map((part) => expectDefined(part[name], name));
    return [name, tf.concat(tensors, 0)] as const;
  });
  return Object.fromEntries(joined);
}
