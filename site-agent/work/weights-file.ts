// Weights as numbers by name, taken from a tensor bundle that must hold exactly the tensors of its recipe.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { Sha256 } from "@consilium/shared/base/brand.ts";
import { blobHasher } from "@consilium/shared/crypto/digest.ts";
import {
  type BundledTensor,
  float32Tensor,
  float32Values,
  readTensorBundle,
  writeBundleHeader,
} from "@consilium/shared/encoding/tensor-bundle.ts";
import { TensorBundleError } from "@consilium/shared/encoding/tensor-bundle-error.ts";
import {
  expectManifest,
  ManifestError,
  type ParameterSpec,
} from "@consilium/shared/model/parameter-manifest.ts";
import { StudyError } from "./study-error.ts";

/** Values by tensor name, in PyTorch's order. */
export type WeightValues = ReadonlyMap<string, Float32Array>;

/** @throws StudyError `weights.other` */
export function readWeights(bytes: Uint8Array, specs: readonly ParameterSpec[]): WeightValues {
  try {
    const { tensors } = readTensorBundle(bytes);
    expectManifest(specs, tensors);
    return new Map([...tensors].map(([name, tensor]) => [name, float32Values(tensor)]));
  } catch (cause) {
    if (cause instanceof TensorBundleError || cause instanceof ManifestError) {
      throw new StudyError("weights.other", { cause });
    }
    throw cause;
  }
}

/** The tensors of a weights file in the recipe's order. */
export function weightTensors(values: WeightValues, specs: readonly ParameterSpec[]): BundledTensor[] {
  return specs.map(({ name, shape }) => float32Tensor(name, shape, expectDefined(values.get(name), name)));
}

/** Digest and length of the canonical file of these tensors, without writing it. */
export function canonicalDigest(tensors: readonly BundledTensor[]): { sha256: Sha256; bytes: number } {
  const header = writeBundleHeader(tensors);
  const hasher = blobHasher();
  hasher.update(header);
  for (const { bytes } of tensors) hasher.update(bytes);
  const bytes = tensors.reduce((sum, tensor) => sum + tensor.bytes.byteLength, header.byteLength);
  return { sha256: hasher.digest(), bytes };
}
