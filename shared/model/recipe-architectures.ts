// What the coordinator has to know of a recipe: which tensors its weights are, which of them an update holds, and what
// a seeded start model looks like. It computes no image. The site agent's registry builds the same recipes from tensors.

import type { Sha256 } from "../base/brand.ts";
import { documentDigest } from "../crypto/digest.ts";
import type { PartName } from "../protocol/names.ts";
import type { ParameterManifest, ParameterSpec } from "./parameter-manifest.ts";
import {
  parsePlainConvUNetConfig,
  plainConvUNetParameters,
  plainConvUNetTrainable,
} from "./plain-conv-unet.ts";
import { initialPlainConvUNetWeights } from "./plain-conv-unet-weights.ts";
import { parseRfmedsam2Config } from "./rfmedsam2.ts";
import {
  initialPartWeights,
  initialRfmedsam2Weights,
  rfmedsam2Parameters,
  rfmedsam2Parts,
  rfmedsam2Trainable,
} from "./rfmedsam2-parameters.ts";

export type RecipeArchitecture = {
  readonly version: number;
  /** All tensors of a weights file, in their order. @throws when the configuration is not one of this recipe */
  parameters(config: unknown): ParameterSpec[];
  /** The tensors of an update, in their order. */
  trainable(config: unknown): ParameterManifest;
  /** One array per tensor of `parameters`, the same on every machine. */
  initialWeights(config: unknown, seed: number): ReadonlyMap<string, Float32Array>;
  /** The parts of a weights file in its order; the names of several are prefixes of its tensors. */
  readonly partNames: readonly PartName[];
  /** What `initialWeights` draws for one part, under the part's own names. */
  initialPart(config: unknown, part: PartName, seed: number): ReadonlyMap<string, Float32Array>;
};

export const recipeArchitectures: Readonly<Record<string, RecipeArchitecture>> = {
  "unet-prompter": {
    version: 1,
    parameters: (config) => plainConvUNetParameters(parsePlainConvUNetConfig(config)),
    trainable: (config) => plainConvUNetTrainable(parsePlainConvUNetConfig(config)),
    initialWeights: (config, seed) => initialPlainConvUNetWeights(parsePlainConvUNetConfig(config), seed),
    partNames: ["prompter"],
    initialPart: (config, _, seed) => initialPlainConvUNetWeights(parsePlainConvUNetConfig(config), seed),
  },
  rfmedsam2: {
    version: 1,
    parameters: (config) => rfmedsam2Parameters(parseRfmedsam2Config(config)),
    trainable: (config) => rfmedsam2Trainable(parseRfmedsam2Config(config)),
    initialWeights: (config, seed) => initialRfmedsam2Weights(parseRfmedsam2Config(config), seed),
    partNames: rfmedsam2Parts,
    initialPart: (config, part, seed) => initialPartWeights(parseRfmedsam2Config(config), part, seed),
  },
};

/** The architecture of a recipe, or undefined where this build does not know it in that version. */
export function findArchitecture(recipe: {
  readonly id: string;
  readonly version: number;
}): RecipeArchitecture | undefined {
  const found = Object.hasOwn(recipeArchitectures, recipe.id) ? recipeArchitectures[recipe.id] : undefined;
  return found?.version === recipe.version ? found : undefined;
}

/** What a plan names and every update must match. */
export function manifestDigest(manifest: ParameterManifest): Sha256 {
  return documentDigest("parameter-manifest", manifest);
}
