// That the parts of a version are the bytes that its manifest names, and that what is said to be drawn from a seed is.

import type { RecipeArchitecture } from "@consilium/shared/model/recipe-architectures.ts";
import { recipeParts } from "@consilium/shared/model/recipe-parts.ts";
import type { ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import type { ArtifactStore } from "../versions/artifact-store.ts";
import { drawnPartDigest, storedPartDigests } from "../versions/part-digests.ts";
import { holdsExactly, TensorReader } from "../versions/tensor-reader.ts";

type Recipe = { readonly architecture: RecipeArchitecture; readonly config: unknown };

/** @throws Error naming the first part that is another */
export async function checkPartBytes(
  store: ArtifactStore,
  { architecture, config }: Recipe,
  { parts = [], weights, from }: ModelVersionManifest,
): Promise<void> {
  const reader = TensorReader.open(store, weights.sha256);
  const isWhole = holdsExactly(reader, architecture.parameters(config));
  reader.close();
  if (!isWhole) throw new Error("the weights of a version do not hold exactly the recipe's tensors");
  const known = recipeParts(architecture, config);
  const digests = await storedPartDigests(store, weights.sha256, known);
  for (const { part, parameters } of known) {
    const named = parts.find((one) => one.part === part);
    if (named?.sha256 !== digests.get(part))
      throw new Error(`the ${part} of ${versionWords(from)} is not the one that its manifest names`);
    if (from.kind === "aggregated" || from.kind === "seeded" || named?.origin.kind !== "seeded") continue;
    const { seed } = named.origin;
    if (drawnPartDigest(architecture, config, { part, seed, parameters }) !== named.sha256)
      throw new Error(`the ${part} of the start model is not the one that seed ${seed} gives`);
  }
}

function versionWords(from: ModelVersionManifest["from"]): string {
  return from.kind === "aggregated" ? `the version of round ${from.round}` : "the start model";
}
