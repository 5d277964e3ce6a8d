// The parts of a recipe's weights: SAM 2, what prompts it, and its adapters. A part is named by its bytes alone, so that
// the same prompter has the same digest in every recipe, study and file that holds it.

import type { PartName } from "../protocol/names.ts";
import { type ParameterSpec, specsUnder } from "./parameter-manifest.ts";
import type { RecipeArchitecture } from "./recipe-architectures.ts";

export type RecipePart = {
  readonly part: PartName;
  /** What stands in a weights file before the part's own names; nothing in a recipe of one part. */
  readonly prefix: string;
  /** The part's tensors under its own names, in the order of a weights file. */
  readonly parameters: readonly ParameterSpec[];
  /** Whether an update holds any of them. */
  readonly isTrained: boolean;
};

/** All parts, in the order of a weights file. @throws when the configuration is not one of this recipe */
export function recipeParts(architecture: RecipeArchitecture, config: unknown): RecipePart[] {
  const [all, trainable] = [architecture.parameters(config), architecture.trainable(config)];
  return architecture.partNames.map((part) => {
    const prefix = hasParts(architecture) ? `${part}.` : "";
    return {
      part,
      prefix,
      parameters: specsUnder(prefix, all),
      isTrained: trainable.some(({ name }) => name.startsWith(prefix)),
    };
  });
}

/** Whether the versions of this recipe name their parts. The one part of a recipe is its whole weights file. */
export function hasParts({ partNames }: RecipeArchitecture): boolean {
  return partNames.length > 1;
}
