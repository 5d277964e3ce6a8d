// The allow-list of names in a pickle, and what calling one of them means. This is the security boundary of reading
// PyTorch's files: a name outside the list refuses the file, and a name inside it is only a word of this table.
// Names and arguments: torch/_utils.py and torch/serialization.py of PyTorch.

import {
  TENSOR_NAME_LENGTH_MAX,
  TENSOR_RANK_MAX,
  type TensorDtype,
} from "@consilium/shared/encoding/tensor-bundle-header.ts";
import { CheckpointError } from "./checkpoint-error.ts";
import {
  isKey,
  type PickleDict,
  type PickleGlobal,
  type PickleStorage,
  type PickleTensor,
  type PickleValue,
  pickleDict,
  setIn,
} from "./pickle-value.ts";

const STORAGES: Readonly<Record<string, TensorDtype>> = {
  DoubleStorage: "F64",
  FloatStorage: "F32",
  HalfStorage: "F16",
  BFloat16Storage: "BF16",
  LongStorage: "I64",
  IntStorage: "I32",
  ShortStorage: "I16",
  CharStorage: "I8",
  ByteStorage: "U8",
  BoolStorage: "BOOL",
};

const GLOBALS: ReadonlyMap<string, PickleGlobal> = new Map<string, PickleGlobal>([
  ["collections OrderedDict", { kind: "global", name: "OrderedDict" }],
  ["torch._utils _rebuild_tensor_v2", { kind: "global", name: "rebuildTensor" }],
  ["torch._utils _rebuild_parameter", { kind: "global", name: "rebuildParameter" }],
  ...Object.entries(STORAGES).map(([name, dtype]): [string, PickleGlobal] => [
    `torch ${name}`,
    { kind: "global", name: "storage", dtype },
  ]),
]);

/** @throws CheckpointError checkpoint.pickle.global for every name outside the list */
export function findGlobal(module: string, name: string): PickleGlobal {
  const found = GLOBALS.get(`${module} ${name}`);
  if (found === undefined) throw new CheckpointError("checkpoint.pickle.global");
  return found;
}

/** What the call of an allowed name gives. @throws CheckpointError for other names and other arguments */
export function callGlobal(callable: PickleValue, args: PickleValue): PickleDict | PickleTensor {
  if (isKey(callable) || callable.kind !== "global") throw malformed("call");
  if (isKey(args) || args.kind !== "tuple") throw malformed("arguments");
  switch (callable.name) {
    case "OrderedDict":
      return orderedDict(args.items);
    case "rebuildTensor":
      return rebuildTensor(args.items);
    case "rebuildParameter":
      return rebuildParameter(args.items);
    case "storage":
      throw new CheckpointError("checkpoint.pickle.global", "a storage is called");
    default:
      return callable satisfies never;
  }
}

/** Empty, or over a list of pairs as Python 2 wrote it. */
function orderedDict(args: readonly PickleValue[]): PickleDict {
  const dict = pickleDict();
  const [pairs = null, ...others] = args;
  if (pairs === null && args.length === 0) return dict;
  if (isKey(pairs) || pairs.kind !== "list" || others.length > 0) throw malformed("dictionary");
  for (const pair of pairs.items) {
    const isPair = !isKey(pair) && (pair.kind === "list" || pair.kind === "tuple") && pair.items.length === 2;
    const [key, value] = isPair ? pair.items : [];
    if (key === undefined || value === undefined) throw malformed("dictionary");
    setIn(dict, key, value);
  }
  return dict;
}

/** (storage, offset, shape, strides, needs a gradient, hooks and, since PyTorch 2.1, metadata). */
function rebuildTensor(args: readonly PickleValue[]): PickleTensor {
  const [storage = null, offset = null, shape = null, strides = null] = args;
  if (args.length < 5 || args.length > 7) throw malformed("tensor");
  if (isKey(storage) || storage.kind !== "storage" || !isSize(offset)) throw malformed("tensor");
  const tensor: PickleTensor = {
    kind: "tensor",
    storage,
    offset,
    shape: sizes(shape),
    strides: sizes(strides),
  };
  expectInside(tensor);
  return tensor;
}

/** (tensor, needs a gradient, hooks). */
function rebuildParameter(args: readonly PickleValue[]): PickleTensor {
  const [tensor = null] = args;
  if (args.length !== 3 || isKey(tensor) || tensor.kind !== "tensor") throw malformed("parameter");
  return tensor;
}

function sizes(value: PickleValue): number[] {
  if (isKey(value) || value.kind !== "tuple") throw malformed("shape");
  if (value.items.length > TENSOR_RANK_MAX) throw new CheckpointError("checkpoint.pickle.limit", "rank");
  return value.items.map((size) => {
    if (!isSize(size)) throw malformed("shape");
    return size;
  });
}

function isSize(value: PickleValue): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function expectInside({ storage, offset, shape, strides }: PickleTensor): void {
  if (strides.length !== shape.length) throw malformed("strides");
  const isEmpty = shape.includes(0);
  let last = offset;
  for (const [axis, size] of shape.entries()) last += isEmpty ? 0 : (size - 1) * (strides[axis] ?? 0);
  const end = isEmpty ? offset : last + 1;
  if (!(end <= storage.count)) throw new CheckpointError("checkpoint.view");
}

/**
 * The storage that a persistent identifier names: ("storage", type, key, place, elements) and, in the legacy form, a
 * view of it, which is nothing or (key, offset, elements).
 * @throws CheckpointError checkpoint.pickle.malformed, checkpoint.view
 */
export function persistentStorage(id: PickleValue): PickleStorage {
  if (isKey(id) || id.kind !== "tuple" || id.items.length < 5 || id.items.length > 6)
    throw malformed("storage");
  const [tag, type = null, key, place, storedCount = null, view = null] = id.items;
  const isTyped = !isKey(type) && type.kind === "global" && type.name === "storage";
  if (tag !== "storage" || !isTyped || typeof key !== "string" || typeof place !== "string") {
    throw malformed("storage");
  }
  if (!isSize(storedCount) || key.length > TENSOR_NAME_LENGTH_MAX) throw malformed("storage");
  const whole: PickleStorage = {
    kind: "storage",
    key,
    dtype: type.dtype,
    storedCount,
    start: 0,
    count: storedCount,
  };
  return view === null ? whole : storageView(whole, view);
}

function storageView(whole: PickleStorage, view: PickleValue): PickleStorage {
  if (isKey(view) || view.kind !== "tuple" || view.items.length !== 3) throw malformed("storage view");
  const [, start = null, count = null] = view.items;
  if (!isSize(start) || !isSize(count)) throw malformed("storage view");
  if (start + count > whole.storedCount) throw new CheckpointError("checkpoint.view");
  return { ...whole, start, count };
}

function malformed(what: string): CheckpointError {
  return new CheckpointError("checkpoint.pickle.malformed", what);
}
