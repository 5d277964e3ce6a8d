// Tensors under Hugging Face's names as tensors under the original ones. A name outside the table is kept as it is, so
// that it is listed as unexpected; two tensors for one original name are accepted only where they hold the same numbers.

import { CheckpointError } from "./checkpoint-error.ts";
import {
  JOINED_POINT_EMBEDDING,
  originalName,
  POINT_EMBEDDING_COUNT,
  pointEmbeddingName,
} from "./hugging-face-names.ts";
import type { StoredTensor, StoredTensors } from "./stored-tensor.ts";

const HUGGING_FACE_PREFIX = "vision_encoder.";

/** True where the image encoder has Hugging Face's name. */
export function hasHuggingFaceNames(tensors: StoredTensors): boolean {
  return [...tensors.keys()].some((name) => name.startsWith(HUGGING_FACE_PREFIX));
}

/** @throws CheckpointError checkpoint.names */
export function withOriginalNames(tensors: StoredTensors): StoredTensors {
  const renamed = new Map<string, StoredTensor>();
  const add = (name: string, tensor: StoredTensor): void => {
    const known = renamed.get(name);
    if (known === undefined) renamed.set(name, tensor);
    else if (!hasSameNumbers(known, tensor)) throw new CheckpointError("checkpoint.names", "two that differ");
  };
  for (const [name, tensor] of tensors) {
    if (name !== JOINED_POINT_EMBEDDING) add(originalName(name) ?? name, tensor);
    else
      for (let row = 0; row < POINT_EMBEDDING_COUNT; row += 1)
        add(pointEmbeddingName(row), rowOf(tensor, row));
  }
  return renamed;
}

/** Row `row` of a [4, D] tensor as [1, D]. */
function rowOf({ dtype, shape, read }: StoredTensor, row: number): StoredTensor {
  const [count, width] = shape;
  if (shape.length !== 2 || count !== POINT_EMBEDDING_COUNT || width === undefined) {
    throw new CheckpointError("checkpoint.names", "point embeddings");
  }
  return { dtype, shape: [1, width], read: () => read().slice(row * width, (row + 1) * width) };
}

function hasSameNumbers(a: StoredTensor, b: StoredTensor): boolean {
  if (a.shape.length !== b.shape.length || a.shape.some((size, axis) => size !== b.shape[axis])) return false;
  const values = b.read();
  return a.read().every((value, index) => Object.is(value, values[index]));
}
