// The tensors of RFMedSAM 2: the prompter's under nnU-Net's names, SAM 2.1's under the official checkpoint's, and those
// of the adapters, each behind the name of its part. The record says which of them an update holds.

import { adapterParameters, initialAdapterWeights } from "./adapters-parameters.ts";
import type { ParameterSpec } from "./parameter-manifest.ts";
import { plainConvUNetParameters, plainConvUNetTrainable } from "./plain-conv-unet.ts";
import { initialPlainConvUNetWeights } from "./plain-conv-unet-weights.ts";
import { type Rfmedsam2Config, sam2Of } from "./rfmedsam2.ts";
import { sam2Parameters } from "./sam2-parameters.ts";
import { initialSam2Weights } from "./sam2-weights.ts";

/** In the order of a weights file. */
export const rfmedsam2Parts = ["prompter", "sam2", "adapters"] as const;
export type Rfmedsam2Part = (typeof rfmedsam2Parts)[number];

const MASK_DECODER = "sam_mask_decoder.";

/** All tensors, part by part. */
export function rfmedsam2Parameters(config: Rfmedsam2Config): ParameterSpec[] {
  const sam2 = sam2Of(config);
  return [
    ...within("prompter", plainConvUNetParameters(config.prompter)),
    ...within("sam2", sam2Parameters(sam2)),
    ...within("adapters", adapterParameters(config.adapters, sam2)),
  ];
}

/** The tensors of an update, in their order. */
export function rfmedsam2Trainable(config: Rfmedsam2Config): ParameterSpec[] {
  const prompter = within("prompter", plainConvUNetTrainable(config.prompter));
  const refiner = [
    ...maskDecoderTrained(config),
    ...within("adapters", adapterParameters(config.adapters, sam2Of(config))),
  ];
  switch (config.trains) {
    case "prompter":
      return prompter;
    case "adapters":
      return refiner;
    case "joint":
      return [...prompter, ...refiner];
  }
}

/** The trained tensors whose learning rate is a share of the plan's, by name. */
export function rfmedsam2LearningRateShares(config: Rfmedsam2Config): ReadonlyMap<string, number> {
  const share = config.maskDecoder?.learningRateShare ?? 1;
  return new Map(maskDecoderTrained(config).map(({ name }) => [name, share]));
}

/** None where the plan leaves the mask decoder frozen. */
function maskDecoderTrained(config: Rfmedsam2Config): ParameterSpec[] {
  if (!config.maskDecoder || config.trains === "prompter") return [];
  const own = sam2Parameters(sam2Of(config)).filter(({ name }) => name.startsWith(MASK_DECODER));
  return within("sam2", own);
}

/** One array per tensor, in the order of `rfmedsam2Parameters`, the same on every machine. */
export function initialRfmedsam2Weights(config: Rfmedsam2Config, seed: number): Map<string, Float32Array> {
  return new Map(
    rfmedsam2Parts.flatMap((part) =>
      [...initialPartWeights(config, part, seed)].map(
        ([name, values]) => [`${part}.${name}`, values] as const,
      ),
    ),
  );
}

/** What a seed draws for one part, under the part's own names; it does not depend on the other parts. */
export function initialPartWeights(
  config: Rfmedsam2Config,
  part: Rfmedsam2Part,
  seed: number,
): ReadonlyMap<string, Float32Array> {
  switch (part) {
    case "prompter":
      return initialPlainConvUNetWeights(config.prompter, seed);
    case "sam2":
      return initialSam2Weights(sam2Of(config), seed);
    case "adapters":
      return initialAdapterWeights(config.adapters, sam2Of(config), seed);
  }
}

/** The weights of one part under the part's own names. */
export function partWeights(
  weights: ReadonlyMap<string, Float32Array>,
  part: Rfmedsam2Part,
): Map<string, Float32Array> {
  const prefix = `${part}.`;
  return new Map(
    [...weights].flatMap(([name, values]) =>
      name.startsWith(prefix) ? [[name.slice(prefix.length), values] as const] : [],
    ),
  );
}

function within(part: Rfmedsam2Part, specs: readonly ParameterSpec[]): ParameterSpec[] {
  return specs.map((spec) => ({ ...spec, name: `${part}.${spec.name}` }));
}
