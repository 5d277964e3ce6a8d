// The version that a study begins with: drawn from a seed, so that an auditor can draw it again, or imported as a
// weights file that fits the recipe.

import type { Sha256, StudyId } from "@consilium/shared/base/brand.ts";
import { float32Tensor, writeBundleHeader } from "@consilium/shared/encoding/tensor-bundle.ts";
import {
  findArchitecture,
  manifestDigest,
  type RecipeArchitecture,
} from "@consilium/shared/model/recipe-architectures.ts";
import type { ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import type { ArtifactStore, StoredBlob } from "./artifact-store.ts";
import { holdsExactly, TensorReader } from "./tensor-reader.ts";

export type StartModel =
  | { readonly kind: "seeded"; readonly seed: number }
  | { readonly kind: "imported"; readonly sha256: Sha256 };
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

/** Write the start weights and describe them. */
export function createStartVersion(
  store: ArtifactStore,
  {
    origin,
    study,
    recipe,
    start,
  }: { origin: string; study: StudyId; recipe: RecipeChoice; start: StartModel },
): ModelVersionManifest {
  const architecture = architectureOf(recipe);
  const weights =
    start.kind === "seeded"
      ? draw(store, architecture, recipe.config, start.seed)
      : imported(store, architecture, recipe.config, start.sha256);
  return {
    origin,
    study,
    plan: null,
    recipe: { id: recipe.id, version: recipe.version },
    parameterManifest: manifestDigest(architecture.trainable(recipe.config)),
    weights,
    from: start.kind === "seeded" ? start : { kind: "imported" },
  };
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
