// A record of the recipe to begin with: the numbers that its parts were made with, for one size of SAM 2.1, one prompter
// and what a study trains.

import { RFMEDSAM2_ADAPTERS } from "./adapters.ts";
import type { PlainConvUNetConfig } from "./plain-conv-unet.ts";
import type { Normalisation } from "./preprocessing-plan.ts";
import type { Rfmedsam2Config } from "./rfmedsam2.ts";
import type { Sam2VariantName } from "./sam2-variants.ts";

export type Rfmedsam2DraftOptions = {
  readonly variant: Sam2VariantName;
  /** Side of SAM 2's image; null for the variant's own. */
  readonly imageSize: number | null;
  readonly prompter: PlainConvUNetConfig;
  readonly trains: Rfmedsam2Config["trains"];
  /** Trains SAM 2's mask decoder too, at this share of the adapters' learning rate. */
  readonly decoderRateShare?: number;
  readonly normalisation: Normalisation;
  /**
   * CT numbers that become black and white in SAM 2's image, of CT alone. Without it the range of all organs' numbers: where
   * bone or air is among them, soft organs are left with few grey values.
   */
  readonly windowHu?: HuWindow;
};

export type HuWindow = { readonly low: number; readonly high: number };

/** Inferred: deviations from a volume's mean between which its anatomy is taken to lie. */
const ZSCORE_WINDOW = { low: -2, high: 4 };

export function draftRfmedsam2Config(options: Rfmedsam2DraftOptions): Rfmedsam2Config {
  const { variant, imageSize, prompter, trains, decoderRateShare, normalisation } = options;
  const isSmall = variant.endsWith("micro");
  return {
    sam2: { variant, imageSize },
    adapters: RFMEDSAM2_ADAPTERS,
    prompter,
    trains,
    ...(decoderRateShare !== undefined && { maskDecoder: { learningRateShare: decoderRateShare } }),
    answer: trains === "prompter" ? "prompter" : "stage-2",
    recompute: !isSmall,
    window: windowOf(normalisation, options.windowHu),
    // Small images cost little more by the batch: all of a clip's memories serve more questions.
    clip: { slices: 8, queries: isSmall ? 6 : 2, objects: 2 },
    prompts: {
      truthShare: 0.5,
      pointShare: 0,
      negativeCount: 0,
      maskShare: 0.5,
      promptedShare: 1,
      jitter: { share: 0.1, pixelsMax: 20 },
      roughness: { shiftPxMax: 2, growPxMax: 2 },
    },
    loss: { mask: 1, dice: 1, iou: 0.1, object: 0.1, stages: [1, 1] },
    refinement: {
      clipSlices: 32,
      prompter: {
        object: { kind: "likeliest" },
        extent: "largest",
        margin: { share: 0.02, pixelsMin: 1 },
      },
      prompts: "boxes-and-masks",
      conditioningEvery: 4,
      conditioningScoreMin: 0.7,
      conditioningCountMax: 4,
      memoryCountMax: 6,
      gaps: "refined",
      agreementDiceMin: 0.3,
      sureScoreMin: 0.5,
    },
  };
}

/** For CT the range to which intensities were cut off, as the normalised image has it. */
function windowOf(normalisation: Normalisation, windowHu?: HuWindow): Rfmedsam2Config["window"] {
  if (normalisation.kind === "zscore") return ZSCORE_WINDOW;
  const { mean, std } = normalisation;
  const { low, high } = windowHu ?? normalisation;
  return { low: (low - mean) / std, high: (high - mean) / std };
}
