// A model as one file: safetensors whose metadata holds the signed manifest of its version and the signed plan of its
// study, so that it can be used and checked without a coordinator. Reading refuses a file whose documents, tensors and
// plan do not belong together; whom to trust is the reader's choice.

import { readFile } from "node:fs/promises";
import { type PublicKey, publicKeyPattern } from "@consilium/shared/base/brand.ts";
import { claimedSigner, Envelope, EnvelopeError, openEnvelope } from "@consilium/shared/crypto/envelope.ts";
import {
  canonicalJsonText,
  decodeCanonicalJson,
  type Json,
} from "@consilium/shared/encoding/canonical-json.ts";
import {
  type BundledTensor,
  float32Values,
  readTensorBundle,
  type TensorBundle,
  writeTensorBundle,
} from "@consilium/shared/encoding/tensor-bundle.ts";
import { expectManifest } from "@consilium/shared/model/parameter-manifest.ts";
import { planFaults, type StudyPlan, StudyPlanDocument } from "@consilium/shared/model/study-plan.ts";
import { ModelVersionDocument, type ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import { Value } from "typebox/value";
import { belongsTo, expectRecipe, versionDigest } from "./work/checked-documents.ts";
import { canonicalDigest, type WeightValues } from "./work/weights-file.ts";

/** Names of the metadata entries; each holds the canonical JSON of an envelope. */
export const modelFileMetadata = { version: "consilium.version", plan: "consilium.plan" } as const;

const REMEDIES = {
  "model.unreadable": "The model file cannot be read; check that it exists and is whole.",
  "model.malformed": "That is not a model file of Consilium; export the version again.",
  "model.not-signed": "The model file's documents are not signed by the key they name; do not use it.",
  "model.not-trusted": "The model file is signed by a key that is not in the list of trusted keys.",
  "model.inconsistent": "The model file's version, plan and recipe do not belong together; do not use it.",
  "model.altered": "The model file's tensors are not those that were signed; do not use it.",
  "model.keys-malformed": "The list of trusted keys is not valid; it needs one public key a line.",
} as const;

export type ModelFileErrorCode = keyof typeof REMEDIES;

export class ModelFileError extends Error {
  override name = "ModelFileError";
  readonly code: ModelFileErrorCode;

  constructor(code: ModelFileErrorCode, options?: ErrorOptions) {
    super(REMEDIES[code], options);
    this.code = code;
  }
}

export type ModelFile = {
  readonly version: string;
  readonly manifest: ModelVersionManifest;
  readonly plan: StudyPlan;
  readonly weights: WeightValues;
  /** Who signed both documents. */
  readonly signer: PublicKey;
};

/**
 * @param trusted keys of which one must have signed; null where the reader only wants the file to agree with itself
 * @throws ModelFileError
 */
export async function openModelFile(path: string, trusted: readonly PublicKey[] | null): Promise<ModelFile> {
  const bytes = await readFile(path).catch((cause: unknown) => {
    throw new ModelFileError("model.unreadable", { cause });
  });
  return readModelFile(bytes, trusted);
}

/** @throws ModelFileError */
export function readModelFile(bytes: Uint8Array, trusted: readonly PublicKey[] | null): ModelFile {
  const bundle = attempt("model.malformed", () => readTensorBundle(bytes));
  const versionEnvelope = envelopeIn(bundle, modelFileMetadata.version);
  const planEnvelope = envelopeIn(bundle, modelFileMetadata.plan);
  const signer = claimedSigner(versionEnvelope);
  const { manifest, plan } = attempt("model.not-signed", () => ({
    manifest: openEnvelope(ModelVersionDocument, versionEnvelope, signer),
    plan: openEnvelope(StudyPlanDocument, planEnvelope, signer),
  }));
  if (trusted !== null && !trusted.includes(signer)) throw new ModelFileError("model.not-trusted");
  if (planFaults(plan).length > 0 || !belongsTo(manifest, plan))
    throw new ModelFileError("model.inconsistent");
  const specs = attempt("model.inconsistent", () => expectRecipe(plan).parameters(plan.recipe.config));
  attempt("model.altered", () => expectManifest(specs, bundle.tensors));
  const tensors = [...bundle.tensors.values()];
  const digest = canonicalDigest(tensors);
  if (digest.sha256 !== manifest.weights.sha256 || digest.bytes !== manifest.weights.bytes) {
    throw new ModelFileError("model.altered");
  }
  const weights = new Map(tensors.map((tensor) => [tensor.name, float32Values(tensor)]));
  return { version: versionDigest(manifest), manifest, plan, weights, signer };
}

/** The bytes of a model file. The tensors come in the order of their weights file. */
export function writeModelFile(
  tensors: readonly BundledTensor[],
  documents: { readonly version: Envelope; readonly plan: Envelope },
): Uint8Array {
  return writeTensorBundle(tensors, {
    [modelFileMetadata.version]: canonicalJsonText(documents.version),
    [modelFileMetadata.plan]: canonicalJsonText(documents.plan),
  });
}

/** One key a line; empty lines and lines that begin with # say nothing. @throws ModelFileError */
export async function readTrustedKeys(path: string): Promise<PublicKey[]> {
  const text = await readFile(path, "utf8").catch((cause: unknown) => {
    throw new ModelFileError("model.keys-malformed", { cause });
  });
  const lines = text.split("\n").map((line) => line.trim());
  const keys = lines.filter((line) => line !== "" && !line.startsWith("#"));
  const pattern = new RegExp(publicKeyPattern);
  if (keys.length === 0 || !keys.every((key): key is PublicKey => pattern.test(key))) {
    throw new ModelFileError("model.keys-malformed");
  }
  return keys;
}

function envelopeIn({ metadata }: TensorBundle, name: string): Envelope {
  const text = metadata[name];
  if (text === undefined) throw new ModelFileError("model.malformed");
  const value: Json = attempt("model.malformed", () => decodeCanonicalJson(new TextEncoder().encode(text)));
  if (!Value.Check(Envelope, value)) throw new ModelFileError("model.malformed");
  return value;
}

/** The file's own words never reach a message. */
function attempt<T>(code: ModelFileErrorCode, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    const isExpected = cause instanceof EnvelopeError || (cause instanceof Error && "code" in cause);
    if (isExpected) throw new ModelFileError(code, { cause });
    throw cause;
  }
}
