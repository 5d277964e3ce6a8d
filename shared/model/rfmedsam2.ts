// RFMedSAM 2 (Xie et al. 2025) as a record: a frozen SAM 2.1 with adapters, a UNet that prompts it, and how both are
// trained and asked. It computes no image. Inferred: the paper names the parts and publishes no code; numbers that a
// plan may change stand here, and what is inferred about a part stands where the part is.

import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { AdapterPlan, parseAdapterPlan } from "./adapters.ts";
import { adapterPlaces } from "./adapters-places.ts";
import { PlainConvUNetConfig, parsePlainConvUNetConfig } from "./plain-conv-unet.ts";
import { Rfmedsam2Prompts, Rfmedsam2Refinement } from "./rfmedsam2-prompts.ts";
import { parseSam2Config, Sam2Config } from "./sam2.ts";
import { sam2Variants, withImageSize } from "./sam2-variants.ts";

const closed = { additionalProperties: false };
/** The paper's code trace has clips of up to 32 slices. */
const CLIP_SLICES_MAX = 32;
const FAULTS_SHOWN_MAX = 8;

/** A known size of SAM 2.1, for another input size or, with null, for its own. */
const KnownSam2 = Type.Object(
  {
    variant: Type.Union([
      Type.Literal("micro"),
      Type.Literal("pretrained-micro"),
      Type.Literal("tiny"),
      Type.Literal("small"),
      Type.Literal("base-plus"),
      Type.Literal("large"),
    ]),
    imageSize: Type.Union([Type.Null(), Type.Integer({ minimum: 32, maximum: 4096 })]),
  },
  closed,
);

const Weight = Type.Number({ minimum: 0, maximum: 1000 });

export const Rfmedsam2Config = Type.Object(
  {
    sam2: Type.Union([KnownSam2, Sam2Config]),
    adapters: AdapterPlan,
    prompter: PlainConvUNetConfig,
    /** What an update holds. Everything else is frozen and comes from the start version. */
    trains: Type.Union([Type.Literal("prompter"), Type.Literal("adapters"), Type.Literal("joint")]),
    /** SAM 2's mask decoder is trained with its adapters, at this share of their learning rate. Without it, it is frozen. */
    maskDecoder: Type.Optional(
      Type.Object({ learningRateShare: Type.Number({ exclusiveMinimum: 0, maximum: 1 }) }, closed),
    ),
    /** Whose answer a prediction is, and what a round's evaluation scores. */
    answer: Type.Union([Type.Literal("prompter"), Type.Literal("stage-1"), Type.Literal("stage-2")]),
    /** Blocks of SAM 2 are computed again in the backward pass: half as much time again, far less memory. */
    recompute: Type.Boolean(),
    /** Normalised intensities that become black and white of SAM 2's image; beyond them it is cut off. */
    window: Type.Object(
      {
        low: Type.Number({ minimum: -1e6, maximum: 1e6 }),
        high: Type.Number({ minimum: -1e6, maximum: 1e6 }),
      },
      closed,
    ),
    /** One training sample: consecutive slices, those of them that are asked, and the organs that are asked for. */
    clip: Type.Object(
      {
        slices: Type.Integer({ minimum: 1, maximum: CLIP_SLICES_MAX }),
        queries: Type.Integer({ minimum: 1, maximum: CLIP_SLICES_MAX }),
        objects: Type.Integer({ minimum: 1, maximum: 64 }),
      },
      closed,
    ),
    prompts: Rfmedsam2Prompts,
    loss: Type.Object(
      {
        mask: Weight,
        dice: Weight,
        iou: Weight,
        object: Weight,
        /** Of the first stage and of the second. */
        stages: Type.Tuple([Weight, Weight]),
      },
      closed,
    ),
    refinement: Rfmedsam2Refinement,
  },
  closed,
);
export type Rfmedsam2Config = Static<typeof Rfmedsam2Config>;

export type Rfmedsam2ErrorCode = "rfmedsam2.config-malformed" | "rfmedsam2.config-inconsistent";

export class Rfmedsam2Error extends Error {
  override name = "Rfmedsam2Error";
  readonly code: Rfmedsam2ErrorCode;

  constructor(code: Rfmedsam2ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** @throws Rfmedsam2Error, or the error of the part that is at fault */
export function parseRfmedsam2Config(value: unknown): Rfmedsam2Config {
  if (!Value.Check(Rfmedsam2Config, value)) {
    const faults = Value.Errors(Rfmedsam2Config, value).map(
      (error) => `${error.instancePath} ${error.message}`,
    );
    const shown = faults.slice(0, FAULTS_SHOWN_MAX).join("; ");
    throw new Rfmedsam2Error("rfmedsam2.config-malformed", `Not the record of the recipe: ${shown}.`);
  }
  parsePlainConvUNetConfig(value.prompter);
  adapterPlaces(parseAdapterPlan(value.adapters), sam2Of(value));
  const faults = inconsistencies(value);
  if (faults.length > 0) throw new Rfmedsam2Error("rfmedsam2.config-inconsistent", `${faults.join("; ")}.`);
  return value;
}

/** The whole record of the SAM 2.1 model. @throws Sam2Error where it is no model */
export function sam2Of({ sam2 }: Pick<Rfmedsam2Config, "sam2">): Sam2Config {
  if (!("variant" in sam2)) return parseSam2Config(sam2);
  const known = sam2Variants[sam2.variant];
  return parseSam2Config(sam2.imageSize === null ? known : withImageSize(known, sam2.imageSize));
}

/** What the side of SAM 2's image is a multiple of. */
export function imageUnitOf({ trunk }: Pick<Sam2Config, "trunk">): number {
  return 4 * (trunk.windows[0] ?? 1);
}

function inconsistencies(config: Rfmedsam2Config): string[] {
  const { window, clip, prompter, trains, answer } = config;
  const sam2 = sam2Of(config);
  const { imageSize } = sam2;
  const unit = imageUnitOf(sam2);
  const faults: [boolean, string][] = [
    [window.low >= window.high, "window.low must be below window.high"],
    [clip.queries > clip.slices, "clip.queries must not exceed clip.slices"],
    [
      prompter.inputChannels % 2 === 0,
      "prompter.inputChannels must be odd: the middle one is the slice itself",
    ],
    [imageSize % unit !== 0, `sam2.imageSize must be a multiple of ${unit}`],
    [trains !== "prompter" && answer === "prompter", "answer must be a stage of what is trained"],
  ];
  return faults.filter(([wrong]) => wrong).map(([, text]) => text);
}
