// The state dict in a checkpoint's pickle: the root itself, or the root's `model` or `state_dict`. Other entries of the
// root, an optimiser's state above all, are left aside.

import { TENSOR_COUNT_MAX, TENSOR_NAME_LENGTH_MAX } from "@consilium/shared/encoding/tensor-bundle-header.ts";
import type { ByteSource } from "./byte-source.ts";
import { CheckpointError } from "./checkpoint-error.ts";
import { isKey, type PickleDict, type PickleTensor, type PickleValue } from "./pickle-value.ts";
import { expectBoundedExpansion, readView, type StoredTensor, type StoredTensors } from "./stored-tensor.ts";

const WRAPPERS = ["model", "state_dict"] as const;

/** @throws CheckpointError checkpoint.no-weights */
export function findStateDict(root: PickleValue): ReadonlyMap<string, PickleTensor> {
  const dict = asDict(root);
  const wrapped = WRAPPERS.map((name) => asDict(dict?.entries.get(name) ?? null)).find(
    (found) => found !== null,
  );
  const weights = wrapped ?? dict;
  if (weights === null || weights.entries.size === 0) throw new CheckpointError("checkpoint.no-weights");
  const tensors = new Map<string, PickleTensor>();
  for (const [name, value] of weights.entries) {
    const isNamed = typeof name === "string" && name.length > 0 && name.length <= TENSOR_NAME_LENGTH_MAX;
    if (!isNamed || isKey(value) || value.kind !== "tensor")
      throw new CheckpointError("checkpoint.no-weights");
    tensors.set(name, value);
  }
  if (tensors.size > TENSOR_COUNT_MAX) throw new CheckpointError("checkpoint.pickle.limit", "tensors");
  return tensors;
}

function asDict(value: PickleValue): PickleDict | null {
  return !isKey(value) && value.kind === "dict" ? value : null;
}

/** Keys of the stored data that the tensors are made of, each with its elements. */
function storedCounts(tensors: ReadonlyMap<string, PickleTensor>): ReadonlyMap<string, number> {
  return new Map([...tensors.values()].map(({ storage }) => [storage.key, storage.storedCount]));
}

/**
 * @param byteOffsets where each stored data begins in the source
 * @throws CheckpointError checkpoint.expansion
 */
export function storedTensors(
  source: ByteSource,
  tensors: ReadonlyMap<string, PickleTensor>,
  { byteOffsets, isBigEndian }: { byteOffsets: ReadonlyMap<string, number>; isBigEndian: boolean },
): StoredTensors {
  const storedCount = [...storedCounts(tensors).values()].reduce((sum, count) => sum + count, 0);
  expectBoundedExpansion(
    [...tensors.values()].map(({ shape }) => shape),
    storedCount,
  );
  return new Map(
    [...tensors].map(([name, { storage, offset, shape, strides }]): [string, StoredTensor] => {
      const byteOffset = byteOffsets.get(storage.key);
      if (byteOffset === undefined) throw new CheckpointError("checkpoint.storage", "missing");
      const { dtype, start } = storage;
      const view = { dtype, shape, strides, offset: start + offset, byteOffset, isBigEndian };
      return [name, { dtype, shape, read: () => readView(source, view) }];
    }),
  );
}
