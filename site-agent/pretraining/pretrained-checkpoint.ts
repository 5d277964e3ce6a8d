// A pretrained model as a checkpoint: safetensors under the official names, float32, in PyTorch's order.

import { fileURLToPath } from "node:url";
import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import { float32Tensor, writeTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";
import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import type { Weights } from "../models/parameters.ts";

/** The checkpoint of `pretrained-micro` that comes with this project. docs/PRETRAINING.md says how it was made. */
export const PRETRAINED_MICRO_FILE = fileURLToPath(
  new URL("./pretrained-micro.safetensors", import.meta.url),
);

/** What is committed has to stay small. */
export const PRETRAINED_BYTES_MAX = 12_000_000;

export function writePretrainedCheckpoint(config: Sam2Config, weights: Weights): Uint8Array {
  const tensors = sam2Parameters(config).map(({ name, shape }) =>
    float32Tensor(name, shape, expectDefined(weights.get(name), name)),
  );
  const bytes = writeTensorBundle(tensors);
  assert(bytes.byteLength <= PRETRAINED_BYTES_MAX, `a checkpoint has at most ${PRETRAINED_BYTES_MAX} bytes`);
  return bytes;
}
