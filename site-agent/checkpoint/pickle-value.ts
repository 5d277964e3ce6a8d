// What a restricted pickle may hold: plain data, storages named by key, tensors over storages, and the few names of the
// allow-list. A container that stands in another one is sealed, so that no container can ever hold itself.

import type { TensorDtype } from "@consilium/shared/encoding/tensor-bundle-header.ts";
import { CheckpointError } from "./checkpoint-error.ts";

export type PickleKey = null | boolean | number | bigint | string;

export type PickleTuple = {
  readonly kind: "tuple";
  readonly items: readonly PickleValue[];
  readonly depth: number;
};
export type PickleList = {
  readonly kind: "list";
  readonly items: PickleValue[];
  depth: number;
  isSealed: boolean;
};
export type PickleDict = {
  readonly kind: "dict";
  readonly entries: Map<PickleKey, PickleValue>;
  depth: number;
  isSealed: boolean;
};

/** Inert: these are words, and REDUCE knows what each of them means. */
export type PickleGlobal =
  | { readonly kind: "global"; readonly name: "OrderedDict" | "rebuildTensor" | "rebuildParameter" }
  | { readonly kind: "global"; readonly name: "storage"; readonly dtype: TensorDtype };

/** A run of `count` elements that begins `start` elements into the stored data `key` of `storedCount` elements. */
export type PickleStorage = {
  readonly kind: "storage";
  readonly key: string;
  readonly dtype: TensorDtype;
  readonly storedCount: number;
  readonly start: number;
  readonly count: number;
};

/** Offset and strides in elements. */
export type PickleTensor = {
  readonly kind: "tensor";
  readonly storage: PickleStorage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
};

export type PickleValue =
  | PickleKey
  | PickleTuple
  | PickleList
  | PickleDict
  | PickleGlobal
  | PickleStorage
  | PickleTensor;

export const PICKLE_DEPTH_MAX = 32;

export function pickleList(): PickleList {
  return { kind: "list", items: [], depth: 1, isSealed: false };
}

export function pickleDict(): PickleDict {
  return { kind: "dict", entries: new Map(), depth: 1, isSealed: false };
}

/** @throws CheckpointError checkpoint.pickle.limit beyond the depth that weights need */
export function pickleTuple(items: readonly PickleValue[]): PickleTuple {
  return { kind: "tuple", items, depth: depthOver(items) };
}

/** @throws CheckpointError for a container that is closed, would hold itself, or would become too deep */
export function appendTo(list: PickleList, items: readonly PickleValue[]): void {
  expectOpen(list, items);
  for (const item of items) list.items.push(item);
  list.depth = Math.max(list.depth, depthOver(items));
}

/** @throws CheckpointError as `appendTo`, for keys that are not plain, and for a key that is there already */
export function setIn(dict: PickleDict, key: PickleValue, value: PickleValue): void {
  expectOpen(dict, [value]);
  if (!isKey(key) || dict.entries.has(key)) {
    throw new CheckpointError("checkpoint.pickle.malformed", "a dictionary's key");
  }
  dict.entries.set(key, value);
  dict.depth = Math.max(dict.depth, depthOver([value]));
}

export function isKey(value: PickleValue): value is PickleKey {
  return value === null || typeof value !== "object";
}

function expectOpen(container: PickleList | PickleDict, items: readonly PickleValue[]): void {
  if (!container.isSealed && !items.includes(container)) return;
  throw new CheckpointError("checkpoint.pickle.malformed", "a container that changes after its use");
}

/** The depth of a container over these items, which from now on no longer change. */
function depthOver(items: readonly PickleValue[]): number {
  let depth = 1;
  for (const item of items) {
    if (isKey(item) || !("depth" in item)) continue;
    if (item.kind !== "tuple") item.isSealed = true;
    depth = Math.max(depth, item.depth + 1);
  }
  if (depth > PICKLE_DEPTH_MAX) throw new CheckpointError("checkpoint.pickle.limit", "depth");
  return depth;
}
