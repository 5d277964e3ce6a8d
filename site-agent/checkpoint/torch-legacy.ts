// PyTorch's checkpoints before version 1.6: five pickles one after another (magic number, version, system, content,
// keys), then for each key its number of elements and its raw numbers. The content must fill the file to its end.
// Layout: _legacy_save in torch/serialization.py of PyTorch.

import { dtypeBytes } from "@consilium/shared/encoding/tensor-bundle-header.ts";
import type { ByteSource } from "./byte-source.ts";
import { CheckpointError } from "./checkpoint-error.ts";
import { isKey, type PickleStorage, type PickleValue } from "./pickle-value.ts";
import { findStateDict, storedTensors } from "./state-dict.ts";
import type { StoredTensors } from "./stored-tensor.ts";
import { PICKLE_BYTES_MAX } from "./torch-zip.ts";
import { unpickle } from "./unpickle.ts";

const MAGIC = 0x1950a86a20f9469cfc6cn;
const VERSION = 1001;
/** PROTO, LONG1, ten bytes of the magic number in little-endian order, STOP: what such a file begins with. */
const MAGIC_START = Uint8Array.of(
  0x8a,
  0x0a,
  0x6c,
  0xfc,
  0x9c,
  0x46,
  0xf9,
  0x20,
  0x6a,
  0xa8,
  0x50,
  0x19,
  0x2e,
);
const COUNT_BYTES = 8;

export function isTorchLegacy(start: Uint8Array): boolean {
  return start[0] === 0x80 && MAGIC_START.every((byte, index) => start[2 + index] === byte);
}

/** @throws CheckpointError */
export function readTorchLegacy(source: ByteSource): StoredTensors {
  const { content, storages, isBigEndian, keys, end } = readPickles(source);
  const tensors = findStateDict(content);
  const byteOffsets = new Map<string, number>();
  let at = end;
  for (const key of keys) {
    const { count, dtype } = storedRun(source, { at, storage: storages.get(key), isBigEndian });
    byteOffsets.set(key, at + COUNT_BYTES);
    at += COUNT_BYTES + count * dtypeBytes(dtype);
  }
  if (at > source.byteLength) throw new CheckpointError("checkpoint.truncated", "inside the numbers");
  if (at < source.byteLength) throw new CheckpointError("checkpoint.storage", "bytes after the last");
  return storedTensors(source, tensors, { byteOffsets, isBigEndian });
}

type LegacyPickles = {
  readonly content: PickleValue;
  readonly storages: ReadonlyMap<string, PickleStorage>;
  readonly isBigEndian: boolean;
  readonly keys: readonly string[];
  readonly end: number;
};

function readPickles(source: ByteSource): LegacyPickles {
  const bytes = source.read(0, Math.min(source.byteLength, PICKLE_BYTES_MAX));
  const magic = unpickle(bytes);
  const version = unpickle(bytes, magic.end);
  if (magic.value !== MAGIC || version.value !== VERSION)
    throw new CheckpointError("checkpoint.form", "version");
  const system = unpickle(bytes, version.end);
  const content = unpickle(bytes, system.end);
  const keys = unpickle(bytes, content.end);
  return {
    content: content.value,
    storages: content.storages,
    isBigEndian: isBigEndian(system.value),
    keys: keyList(keys.value),
    end: keys.end,
  };
}

function isBigEndian(system: PickleValue): boolean {
  const isLittle = !isKey(system) && system.kind === "dict" ? system.entries.get("little_endian") : undefined;
  if (typeof isLittle !== "boolean") throw new CheckpointError("checkpoint.pickle.malformed", "byte order");
  return !isLittle;
}

function keyList(value: PickleValue): string[] {
  if (isKey(value) || value.kind !== "list") throw new CheckpointError("checkpoint.pickle.malformed", "keys");
  const keys = value.items.filter((key) => typeof key === "string");
  if (keys.length !== value.items.length || new Set(keys).size !== keys.length) {
    throw new CheckpointError("checkpoint.pickle.malformed", "keys");
  }
  return keys;
}

function storedRun(
  source: ByteSource,
  { at, storage, isBigEndian }: { at: number; storage: PickleStorage | undefined; isBigEndian: boolean },
): { readonly count: number; readonly dtype: PickleStorage["dtype"] } {
  if (storage === undefined) throw new CheckpointError("checkpoint.storage", "data without a type");
  const bytes = source.read(at, COUNT_BYTES);
  const count = new DataView(bytes.buffer).getBigUint64(0, !isBigEndian);
  if (count !== BigInt(storage.storedCount)) throw new CheckpointError("checkpoint.storage", "size");
  return { count: storage.storedCount, dtype: storage.dtype };
}
