// How SAM 2 is asked: the prompts of training and the numbers of dual-stage refinement, as parts of the recipe's record.

import { Type } from "typebox";

const closed = { additionalProperties: false };
const Share = Type.Number({ minimum: 0, maximum: 1 });
const Pixels = Type.Integer({ minimum: 0, maximum: 256 });

/** Shares are probabilities, drawn for each object in each slice. */
export const Rfmedsam2Prompts = Type.Object(
  {
    /** The prompt comes from the drawn labels; else from the prompter. */
    truthShare: Share,
    /** A prompt from the drawn labels is points instead of a box. */
    pointShare: Share,
    /** Negative points beside the one positive point. */
    negativeCount: Type.Integer({ minimum: 0, maximum: 16 }),
    /** The prompt has a mask too. */
    maskShare: Share,
    /** An object's slice is prompted at all; of every object in a clip at least one is. */
    promptedShare: Share,
    /** Each side of a drawn box moves by up to this share of it, and by so many pixels of the model's image at most. */
    jitter: Type.Object({ share: Share, pixelsMax: Type.Number({ minimum: 0, maximum: 256 }) }, closed),
    /** How far a drawn mask is moved, and grown or shrunk. */
    roughness: Type.Object({ shiftPxMax: Pixels, growPxMax: Pixels }, closed),
  },
  closed,
);

const ObjectRule = Type.Union([
  Type.Object({ kind: Type.Literal("likeliest") }, closed),
  Type.Object({ kind: Type.Literal("threshold"), probability: Share }, closed),
]);

/** Features of every slice of a clip are kept: 4 MB each of SAM 2.1 tiny at 512 pixels. */
const CLIP_SLICES_MAX = 128;

export const Rfmedsam2Refinement = Type.Object(
  {
    /** Slices that are refined together. A volume of more is refined in clips that overlap by half: twice the work. */
    clipSlices: Type.Integer({ minimum: 1, maximum: CLIP_SLICES_MAX }),
    prompter: Type.Object(
      {
        object: ObjectRule,
        extent: Type.Union([Type.Literal("largest"), Type.Literal("all")]),
        margin: Type.Object({ share: Share, pixelsMin: Type.Number({ minimum: 0, maximum: 256 }) }, closed),
      },
      closed,
    ),
    prompts: Type.Union([Type.Literal("boxes"), Type.Literal("boxes-and-masks")]),
    /**
     * The mask prompt of stage 2: what stage 1 answered, or what stage 1 was asked with once more; the answer where nothing
     * is said. An answer is drawn on a grid of a quarter of the image, and loses a little each time.
     */
    secondMask: Type.Optional(Type.Union([Type.Literal("answer"), Type.Literal("prompt")])),
    conditioningEvery: Type.Integer({ minimum: 1, maximum: 32 }),
    conditioningScoreMin: Share,
    conditioningCountMax: Type.Integer({ minimum: 1, maximum: 32 }),
    memoryCountMax: Type.Integer({ minimum: 0, maximum: 32 }),
    gaps: Type.Union([Type.Literal("refined"), Type.Literal("left")]),
    /** Below this overlap with the prompter's mask SAM 2 must be sure of itself. */
    agreementDiceMin: Share,
    /** Predicted IoU from which it is. */
    sureScoreMin: Share,
    /** An accepted mask replaces the prompter's, or is averaged with it as log-odds; replaces it where nothing is said. */
    accepted: Type.Optional(Type.Union([Type.Literal("replaces"), Type.Literal("averages")])),
  },
  closed,
);
