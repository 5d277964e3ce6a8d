// The parts of a version that a round made, from the bytes that were written: a frozen part that has changed makes no
// version.

import type { Sha256 } from "@consilium/shared/base/brand.ts";
import { hasParts, recipeParts } from "@consilium/shared/model/recipe-parts.ts";
import type { ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import { partsAfterRound, type VersionPart } from "@consilium/shared/protocol/version-parts.ts";
import type { ArtifactStore } from "./artifact-store.ts";
import { storedPartDigests } from "./part-digests.ts";
import { architectureOf, type RecipeChoice } from "./start-model.ts";

/**
 * Null for a recipe of one part.
 * @throws FrozenPartError
 */
export async function aggregatedParts(
  store: ArtifactStore,
  recipe: RecipeChoice,
  { parent, weights }: { parent: ModelVersionManifest | undefined; weights: Sha256 },
): Promise<VersionPart[] | null> {
  const architecture = architectureOf(recipe);
  if (!hasParts(architecture)) return null;
  const parts = recipeParts(architecture, recipe.config);
  return partsAfterRound(parent?.parts ?? [], parts, await storedPartDigests(store, weights, parts));
}
