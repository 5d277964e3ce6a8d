// A released model as one file: the weights of a version with its signed manifest and the signed plan in the metadata,
// so that a site can use it, and check it, without a coordinator.

import type { Sha256 } from "@consilium/shared/base/brand.ts";
import type { Envelope } from "@consilium/shared/crypto/envelope.ts";
import { canonicalJsonText } from "@consilium/shared/encoding/canonical-json.ts";
import { writeBundleHeader } from "@consilium/shared/encoding/tensor-bundle.ts";
import type { ArtifactStore } from "./artifact-store.ts";
import { TensorReader } from "./tensor-reader.ts";

const pieceBytes = 1 << 20;

/** Names of the metadata entries; each holds the canonical JSON of an envelope. */
export const modelFileMetadata = { version: "consilium.version", plan: "consilium.plan" } as const;

export function* exportModel(
  artifacts: ArtifactStore,
  weights: Sha256,
  documents: { version: Envelope; plan: Envelope },
): Generator<Uint8Array> {
  const reader = TensorReader.open(artifacts, weights);
  try {
    const tensors = [...reader.tensors.values()];
    yield writeBundleHeader(tensors, {
      [modelFileMetadata.version]: canonicalJsonText(documents.version),
      [modelFileMetadata.plan]: canonicalJsonText(documents.plan),
    });
    for (const tensor of tensors) {
      for (let at = 0; at < tensor.byteLength; at += pieceBytes) {
        const piece = new Uint8Array(Math.min(pieceBytes, tensor.byteLength - at));
        reader.readBytes(tensor, at, piece);
        yield piece;
      }
    }
  } finally {
    reader.close();
  }
}
