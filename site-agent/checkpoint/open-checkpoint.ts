// Opens a checkpoint of SAM 2 from any of the forms in which it is handed about: PyTorch's zip, PyTorch's legacy stream,
// safetensors under the original names or under Hugging Face's. The form is told from the content, never from the file
// name. A fine-tuned file is reported as unknown, not refused; a file of another model is refused with all differences.

import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Sha256 } from "@consilium/shared/base/brand.ts";
import { blobHasher } from "@consilium/shared/crypto/digest.ts";
import { type ByteSource, fileSource } from "./byte-source.ts";
import { CheckpointError } from "./checkpoint-error.ts";
import { hasHuggingFaceNames, withOriginalNames } from "./hugging-face-tensors.ts";
import { type ExpectedTensor, expectTensors } from "./match-tensors.ts";
import { readSafetensors } from "./safetensors-file.ts";
import { describeIdentity, type Sam2Identity, sam2Identity } from "./sam2-identity.ts";
import type { StoredTensors } from "./stored-tensor.ts";
import { isTorchLegacy, readTorchLegacy } from "./torch-legacy.ts";
import { readTorchZip } from "./torch-zip.ts";

export type CheckpointForm = "torch-zip" | "torch-legacy" | "safetensors" | "safetensors-hugging-face";

export type Checkpoint = {
  readonly form: CheckpointForm;
  /** Of the whole file. */
  readonly sha256: Sha256;
  readonly identity: Sam2Identity;
  /** `known: ...` or `unknown: ...`, for people. */
  readonly description: string;
  /** Under the original names; each `read` takes a fresh array from the file, until `close`. */
  readonly tensors: StoredTensors;
  readonly close: () => void;
};

/** Weights of SAM 2.1 large with the state of an optimiser are 2.7 GB. */
export const CHECKPOINT_BYTES_MAX = 8 * 1024 ** 3;
const DIGEST_CHUNK_BYTES = 4 * 1024 * 1024;
const START_BYTES = 64;
const ZIP_START = Uint8Array.of(0x50, 0x4b, 0x03, 0x04);
const OPEN_BRACE = 0x7b;
const HEADER_LENGTH_BYTES = 8;

/**
 * @param expected the tensors of the model; left out, any SAM 2 or other state dict may be looked at
 * @throws CheckpointError; CheckpointMismatch where the tensors are not the expected ones
 */
export async function openCheckpoint(
  path: string,
  { expected }: { readonly expected?: readonly ExpectedTensor[] } = {},
): Promise<Checkpoint> {
  const descriptor = openFile(path);
  try {
    const byteLength = sizeOf(descriptor);
    const sha256 = await digestOf(descriptor, byteLength);
    const { form, tensors } = readTensors(fileSource(descriptor, byteLength));
    if (sizeOf(descriptor) !== byteLength) throw new CheckpointError("checkpoint.changed");
    const identity = sam2Identity(tensors, sha256);
    const description = describeIdentity(identity);
    if (expected !== undefined) expectTensors(tensors, expected, description);
    return { form, sha256, identity, description, tensors, close: () => closeSync(descriptor) };
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

/** Tensors of a checkpoint of any form. @throws CheckpointError */
export function readTensors(source: ByteSource): {
  readonly form: CheckpointForm;
  readonly tensors: StoredTensors;
} {
  const start = source.read(0, Math.min(source.byteLength, START_BYTES));
  if (ZIP_START.every((byte, index) => start[index] === byte)) {
    return { form: "torch-zip", tensors: readTorchZip(source) };
  }
  if (isTorchLegacy(start)) return { form: "torch-legacy", tensors: readTorchLegacy(source) };
  if (start[HEADER_LENGTH_BYTES] !== OPEN_BRACE) throw new CheckpointError("checkpoint.form");
  const tensors = readSafetensors(source);
  if (!hasHuggingFaceNames(tensors)) return { form: "safetensors", tensors };
  return { form: "safetensors-hugging-face", tensors: withOriginalNames(tensors) };
}

function openFile(path: string): number {
  try {
    // Not to wait for a writer where the name belongs to a pipe.
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    throw new CheckpointError("checkpoint.unreadable");
  }
}

function sizeOf(descriptor: number): number {
  const status = fstatSync(descriptor);
  if (!status.isFile()) throw new CheckpointError("checkpoint.unreadable");
  if (status.size > CHECKPOINT_BYTES_MAX) throw new CheckpointError("checkpoint.too-large");
  return status.size;
}

async function digestOf(descriptor: number, byteLength: number): Promise<Sha256> {
  const hasher = blobHasher();
  const chunk = new Uint8Array(DIGEST_CHUNK_BYTES);
  for (let done = 0; done < byteLength; ) {
    const count = readSync(descriptor, chunk, 0, Math.min(chunk.byteLength, byteLength - done), done);
    if (count === 0) throw new CheckpointError("checkpoint.changed");
    hasher.update(chunk.subarray(0, count));
    done += count;
    await nextTurn(); // Other work of the process goes on between two chunks.
  }
  return hasher.digest();
}
