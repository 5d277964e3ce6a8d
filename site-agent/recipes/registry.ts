// The recipes that this agent can train, by the identifier and version that a study plan names.

import type { Recipe } from "./recipe.ts";
import { rfmedsam2 } from "./rfmedsam2.ts";
import { unetPrompter } from "./unet-prompter.ts";

const RECIPES: readonly Recipe[] = [unetPrompter, rfmedsam2];

export type RecipeErrorCode = "recipe.unknown";

export class RecipeError extends Error {
  override name = "RecipeError";
  readonly code: RecipeErrorCode;

  constructor(code: RecipeErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** @throws RecipeError `recipe.unknown` that names what this agent can train. */
export function findRecipe({ id, version }: { readonly id: string; readonly version: number }): Recipe {
  const recipe = RECIPES.find((candidate) => candidate.id === id && candidate.version === version);
  if (recipe) return recipe;
  const known = RECIPES.map((candidate) => `${candidate.id} ${candidate.version}`).join(", ");
  throw new RecipeError(
    "recipe.unknown",
    `This agent trains ${known}; install the version that the study needs.`,
  );
}
