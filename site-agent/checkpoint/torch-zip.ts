// PyTorch's checkpoints since version 1.6: a zip container of stored entries, `<top>/data.pkl` and the raw numbers in
// `<top>/data/<key>`. Every checksum is compared before the tensors are handed out; the numbers stay in the file.
// Layout: torch/csrc/jit/serialization of PyTorch.

import { crc32 } from "node:zlib";
import { dtypeBytes } from "@consilium/shared/encoding/tensor-bundle-header.ts";
import type { ByteSource } from "./byte-source.ts";
import { CheckpointError } from "./checkpoint-error.ts";
import { findStateDict, storedTensors } from "./state-dict.ts";
import type { StoredTensors } from "./stored-tensor.ts";
import { unpickle } from "./unpickle.ts";
import { readZipDirectory, type ZipEntry } from "./zip-directory.ts";

/** SAM 2.1 large needs 0.2 MB; with the state of an optimiser about 1 MB. */
export const PICKLE_BYTES_MAX = 16 * 1024 * 1024;
const BYTE_ORDER_BYTES_MAX = 16;
const CHUNK_BYTES = 1024 * 1024;

/** @throws CheckpointError */
export function readTorchZip(source: ByteSource): StoredTensors {
  const entries = readZipDirectory(source);
  const top = topFolder([...entries.keys()]);
  const pickle = entry(entries, `${top}/data.pkl`);
  if (pickle.byteLength > PICKLE_BYTES_MAX) throw new CheckpointError("checkpoint.pickle.limit", "bytes");
  expectChecksum(source, pickle);
  const { value, storages } = unpickle(source.read(pickle.byteOffset, pickle.byteLength));
  const tensors = findStateDict(value);
  const byteOffsets = new Map<string, number>();
  for (const [key, storage] of storages) {
    const data = entry(entries, `${top}/data/${key}`);
    if (data.byteLength !== storage.storedCount * dtypeBytes(storage.dtype)) {
      throw new CheckpointError("checkpoint.storage", "size");
    }
    expectChecksum(source, data);
    byteOffsets.set(key, data.byteOffset);
  }
  return storedTensors(source, tensors, { byteOffsets, isBigEndian: isBigEndian(source, entries, top) });
}

function entry(entries: ReadonlyMap<string, ZipEntry>, name: string): ZipEntry {
  const found = entries.get(name);
  if (found === undefined) throw new CheckpointError("checkpoint.storage", "missing");
  return found;
}

/** The one folder that holds a pickle; its name is that of the file once saved, or `archive`. */
function topFolder(names: readonly string[]): string {
  const tops = names.flatMap((name) => /^([^/]+)\/data\.pkl$/.exec(name)?.[1] ?? []);
  const [top] = tops;
  if (top === undefined || tops.length > 1)
    throw new CheckpointError("checkpoint.zip.malformed", "no data.pkl");
  return top;
}

function isBigEndian(source: ByteSource, entries: ReadonlyMap<string, ZipEntry>, top: string): boolean {
  const found = entries.get(`${top}/byteorder`);
  if (found === undefined) return false;
  const bytes = source.read(found.byteOffset, Math.min(found.byteLength, BYTE_ORDER_BYTES_MAX));
  const order = new TextDecoder().decode(bytes);
  if (order !== "little" && order !== "big")
    throw new CheckpointError("checkpoint.zip.malformed", "byteorder");
  return order === "big";
}

function expectChecksum(source: ByteSource, { byteOffset, byteLength, crc32: expected }: ZipEntry): void {
  let sum = 0;
  for (let done = 0; done < byteLength; done += CHUNK_BYTES) {
    sum = crc32(source.read(byteOffset + done, Math.min(CHUNK_BYTES, byteLength - done)), sum);
  }
  if (sum !== expected) throw new CheckpointError("checkpoint.damaged");
}
