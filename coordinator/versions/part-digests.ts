// The digest of a part: SHA-256 of the canonical file of its tensors under the part's own names. Computed from a weights
// file block by block, or from what a seed draws.

import { setImmediate as nextTurn } from "node:timers/promises";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { Sha256 } from "@consilium/shared/base/brand.ts";
import { blobHasher } from "@consilium/shared/crypto/digest.ts";
import { float32Tensor, writeBundleHeader } from "@consilium/shared/encoding/tensor-bundle.ts";
import type { RecipeArchitecture } from "@consilium/shared/model/recipe-architectures.ts";
import type { RecipePart } from "@consilium/shared/model/recipe-parts.ts";
import type { PartName } from "@consilium/shared/protocol/names.ts";
import type { ArtifactStore } from "./artifact-store.ts";
import { TensorReader } from "./tensor-reader.ts";

const pieceBytes = 1 << 20;

export type PartDigests = ReadonlyMap<PartName, Sha256>;

/** Of weights that hold the recipe's tensors, in whatever order they lie in the file. */
export async function storedPartDigests(
  store: ArtifactStore,
  weights: Sha256,
  parts: readonly RecipePart[],
): Promise<PartDigests> {
  const reader = TensorReader.open(store, weights);
  try {
    const digests = new Map<PartName, Sha256>();
    for (const one of parts) digests.set(one.part, await storedPartDigest(reader, one));
    return digests;
  } finally {
    reader.close();
  }
}

async function storedPartDigest(reader: TensorReader, { prefix, parameters }: RecipePart): Promise<Sha256> {
  const hasher = blobHasher();
  hasher.update(writeBundleHeader(parameters));
  for (const { name } of parameters) {
    for await (const piece of tensorPieces(reader, `${prefix}${name}`)) hasher.update(piece);
  }
  return hasher.digest();
}

/** The bytes of one tensor; requests are served in between. */
export async function* tensorPieces(reader: TensorReader, name: string): AsyncGenerator<Uint8Array> {
  const tensor = expectDefined(reader.tensors.get(name), name);
  for (let at = 0; at < tensor.byteLength; at += pieceBytes) {
    const piece = new Uint8Array(Math.min(pieceBytes, tensor.byteLength - at));
    reader.readBytes(tensor, at, piece);
    yield piece;
    await nextTurn();
  }
}

/** Of what a seed draws for one part. */
export function drawnPartDigest(
  architecture: RecipeArchitecture,
  config: unknown,
  { part, seed, parameters }: { part: PartName; seed: number; parameters: RecipePart["parameters"] },
): Sha256 {
  const values = architecture.initialPart(config, part, seed);
  const hasher = blobHasher();
  hasher.update(writeBundleHeader(parameters));
  for (const { name, shape } of parameters)
    hasher.update(float32Tensor(name, shape, expectDefined(values.get(name), name)).bytes);
  return hasher.digest();
}
