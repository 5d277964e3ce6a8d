// The version that a study begins with: drawn from a seed, so that an auditor can draw it again, imported as a weights
// file that fits the recipe, or composed of parts of earlier versions. It names each of its parts and their origins.

import type { Sha256, StudyId } from "@consilium/shared/base/brand.ts";
import { float32Tensor, writeBundleHeader } from "@consilium/shared/encoding/tensor-bundle.ts";
import {
  findArchitecture,
  manifestDigest,
  type RecipeArchitecture,
} from "@consilium/shared/model/recipe-architectures.ts";
import { hasParts, recipeParts } from "@consilium/shared/model/recipe-parts.ts";
import type { ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import type { PartChoice, Provenance, VersionPart } from "@consilium/shared/protocol/version-parts.ts";
import type { ArtifactStore, StoredBlob } from "./artifact-store.ts";
import { type Composition, composeWeights, type FindVersion } from "./compose-weights.ts";
import { storedPartDigests } from "./part-digests.ts";
import { composedParts, partsFrom, statedParts } from "./start-parts.ts";
import { holdsExactly, TensorReader } from "./tensor-reader.ts";

export type StartModel =
  | { readonly kind: "seeded"; readonly seed: number }
  | { readonly kind: "imported"; readonly sha256: Sha256; readonly provenance?: Provenance }
  | { readonly kind: "composed"; readonly parts: readonly PartChoice[] };
export type RecipeChoice = { readonly id: string; readonly version: number; readonly config: unknown };

/** @throws ProtocolError plan.invalid when this build does not know the recipe or its configuration is wrong */
export function architectureOf(recipe: RecipeChoice): RecipeArchitecture {
  const architecture = findArchitecture(recipe);
  if (!architecture)
    throw new ProtocolError("plan.invalid", [
      `recipe: ${recipe.id} version ${recipe.version} is not known here`,
    ]);
  try {
    architecture.parameters(recipe.config);
  } catch (cause) {
    throw new ProtocolError("plan.invalid", [`recipe.config: ${(cause as Error).message}`], { cause });
  }
  return architecture;
}

export type StartRequest = {
  /** Name of the log. */
  readonly origin: string;
  readonly study: StudyId;
  readonly recipe: RecipeChoice;
  readonly start: StartModel;
  readonly findVersion: FindVersion;
};

/**
 * Write the start weights and describe them.
 * @throws ProtocolError plan.invalid, blob.unknown, provenance.refused, version.unknown, version.wrong-state
 */
export async function createStartVersion(
  store: ArtifactStore,
  { origin, study, recipe, start, findVersion }: StartRequest,
): Promise<ModelVersionManifest> {
  const architecture = architectureOf(recipe);
  const { config } = recipe;
  const composition = { architecture, config, parts: recipeParts(architecture, config), findVersion };
  if (!hasParts(architecture) && (start.kind === "composed" || "provenance" in start))
    throw new ProtocolError("plan.invalid", ["start: the recipe's weights have no parts"]);
  const weights = await startWeights(store, composition, start);
  const parts = hasParts(architecture)
    ? { parts: await startParts(store, { ...composition, origin, weights }, start) }
    : {};
  return {
    origin,
    study,
    plan: null,
    recipe: { id: recipe.id, version: recipe.version },
    parameterManifest: manifestDigest(architecture.trainable(config)),
    weights,
    from: start.kind === "seeded" ? start : { kind: start.kind },
    ...parts,
  };
}

async function startWeights(
  store: ArtifactStore,
  composition: Composition,
  start: StartModel,
): Promise<StoredBlob> {
  const { architecture, config } = composition;
  switch (start.kind) {
    case "seeded":
      return draw(store, architecture, config, start.seed);
    case "imported":
      return imported(store, architecture, config, start.sha256);
    case "composed":
      return composeWeights(store, composition, start.parts);
  }
}

async function startParts(
  store: ArtifactStore,
  made: Composition & { readonly origin: string; readonly weights: StoredBlob },
  start: StartModel,
): Promise<VersionPart[]> {
  const digests = await storedPartDigests(store, made.weights.sha256, made.parts);
  switch (start.kind) {
    case "seeded":
      return partsFrom(digests, start);
    case "imported":
      return start.provenance
        ? statedParts({ ...made, digests }, start.provenance)
        : partsFrom(digests, { kind: "unstated" });
    case "composed":
      return composedParts(digests, start.parts, made.findVersion);
  }
}

/** The seeded weights as a canonical bundle in the store. */
export function draw(
  store: ArtifactStore,
  architecture: RecipeArchitecture,
  config: unknown,
  seed: number,
): StoredBlob {
  const specs = architecture.parameters(config);
  const values = architecture.initialWeights(config, seed);
  const writer = store.create();
  writer.write(writeBundleHeader(specs));
  for (const { name, shape } of specs)
    writer.write(float32Tensor(name, shape, values.get(name) ?? new Float32Array(0)).bytes);
  return writer.finish();
}

function imported(
  store: ArtifactStore,
  architecture: RecipeArchitecture,
  config: unknown,
  sha256: Sha256,
): StoredBlob {
  const bytes = store.size(sha256);
  if (bytes === null) throw new ProtocolError("blob.unknown");
  const reader = TensorReader.open(store, sha256);
  try {
    if (!holdsExactly(reader, architecture.parameters(config))) {
      throw new ProtocolError("plan.invalid", [
        "start: the weights do not hold exactly the recipe's tensors",
      ]);
    }
  } finally {
    reader.close();
  }
  return { sha256, bytes };
}
