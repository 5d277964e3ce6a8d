// A SAM 2.1 model as a record: every number and switch on which its layers and its tracking depend. It computes no image
// and lists no tensor. Sizes are named records; any other record that passes the parser is a model too.
// Source: Ravi et al. 2024; facebookresearch/sam2, class SAM2Base.

import { type Static, Type } from "typebox";
import { Value } from "typebox/value";

const Channels = Type.Integer({ minimum: 1, maximum: 4096 });
const Count = Type.Integer({ minimum: 1, maximum: 64 });
const Size = Type.Integer({ minimum: 1, maximum: 64 });
const closed = { additionalProperties: false };

/** Hiera (Ryali et al. 2023): stages of blocks with attention in windows; a stage change pools the queries. */
const Trunk = Type.Object(
  {
    embedDim: Channels,
    /** Of the first stage. */
    headCount: Count,
    /** Blocks in each stage. */
    stages: Type.Array(Count, { minItems: 4, maxItems: 4 }),
    /** Side of the window in each stage; the first block of a stage still has the window of the stage before. */
    windows: Type.Array(Size, { minItems: 4, maxItems: 4 }),
    /** Blocks that attend to the whole image. */
    globalBlocks: Type.Array(Type.Integer({ minimum: 0, maximum: 255 }), {
      maxItems: 256,
      uniqueItems: true,
    }),
    /** Stage changes that halve the image, counted from the first. */
    poolCount: Type.Integer({ minimum: 0, maximum: 3 }),
    /** Growth of channels and of heads from stage to stage. */
    dimFactor: Type.Number({ minimum: 1, maximum: 4 }),
    headFactor: Type.Number({ minimum: 1, maximum: 4 }),
    /** Height and width of the position embedding that is stretched over the image. */
    backgroundSize: Type.Tuple([Size, Size]),
  },
  closed,
);

const Neck = Type.Object(
  {
    channels: Channels,
    /** Levels, counted from full resolution, to which the level below is added. */
    topDownLevels: Type.Array(Type.Integer({ minimum: 0, maximum: 3 }), { maxItems: 4, uniqueItems: true }),
    interpolation: Type.Union([Type.Literal("nearest"), Type.Literal("bilinear")]),
    fusion: Type.Union([Type.Literal("sum"), Type.Literal("avg")]),
    /** Lowest levels that are computed and dropped. */
    scalp: Type.Integer({ minimum: 0, maximum: 3 }),
    positionTemperature: Type.Number({ minimum: 1, maximum: 1e8 }),
  },
  closed,
);

const RotaryAttention = Type.Object(
  {
    headCount: Count,
    /** Channels of the model divided by channels inside the attention. */
    downsampleRate: Count,
    theta: Type.Number({ minimum: 1, maximum: 1e8 }),
    /** Columns and rows of the angles, used where their product is the number of queries; else a square is. */
    gridSize: Type.Tuple([
      Type.Integer({ minimum: 1, maximum: 1024 }),
      Type.Integer({ minimum: 1, maximum: 1024 }),
    ]),
  },
  closed,
);

const MemoryAttention = Type.Object(
  {
    layerCount: Count,
    feedForwardChannels: Type.Integer({ minimum: 1, maximum: 65536 }),
    activation: Type.Union([Type.Literal("relu"), Type.Literal("gelu")]),
    selfAttention: RotaryAttention,
    crossAttention: RotaryAttention,
    /** Where position encodings are added. */
    positionAtInput: Type.Boolean(),
    positionAtSelfAttention: Type.Boolean(),
    positionAtQueries: Type.Boolean(),
    positionAtKeys: Type.Boolean(),
  },
  closed,
);

const MemoryEncoder = Type.Object(
  {
    /** Of a memory. */
    channels: Channels,
    positionTemperature: Type.Number({ minimum: 1, maximum: 1e8 }),
    maskDownsampler: Type.Object(
      {
        kernelSize: Type.Integer({ minimum: 1, maximum: 15 }),
        stride: Type.Union([Type.Literal(2), Type.Literal(4), Type.Literal(16)]),
        padding: Type.Integer({ minimum: 0, maximum: 7 }),
      },
      closed,
    ),
    fuser: Type.Object(
      {
        layerCount: Count,
        /** Odd. */
        kernelSize: Type.Integer({ minimum: 1, maximum: 15 }),
        depthwise: Type.Boolean(),
        layerScale: Type.Boolean(),
      },
      closed,
    ),
  },
  closed,
);

const MaskDecoder = Type.Object(
  {
    depth: Count,
    headCount: Count,
    mlpChannels: Type.Integer({ minimum: 1, maximum: 65536 }),
    attentionDownsampleRate: Count,
    /** Masks beside the single one. */
    multimaskCount: Type.Integer({ minimum: 1, maximum: 16 }),
    iouHeadDepth: Count,
    iouHeadChannels: Type.Integer({ minimum: 1, maximum: 65536 }),
    iouSigmoid: Type.Boolean(),
    highResolution: Type.Boolean(),
    objectScore: Type.Boolean(),
    objectScoreMlp: Type.Boolean(),
    /** With several masks, the pointer is made of the chosen mask's own token. */
    multimaskTokenForPointer: Type.Boolean(),
    /** A single mask that is less stable than this gives way to the best of the others; null never. */
    dynamicMultimask: Type.Union([
      Type.Null(),
      Type.Object({ stabilityDelta: Type.Number(), stabilityMin: Type.Number() }, closed),
    ]),
  },
  closed,
);

/** How frames remember each other. */
const Tracking = Type.Object(
  {
    memoryFrameCount: Type.Integer({ minimum: 1, maximum: 64 }),
    /** Conditioning frames that are attended to; null all. */
    conditioningFrameCountMax: Type.Union([Type.Null(), Type.Integer({ minimum: 2, maximum: 1024 })]),
    /** Distance in frames between memories other than the newest. */
    memoryStride: Type.Integer({ minimum: 1, maximum: 64 }),
    maskScale: Type.Number(),
    maskBias: Type.Number(),
    /** Masks of prompted frames enter the memory as 0 and 1. */
    binarizePromptedMasks: Type.Boolean(),
    maskInputIsOutput: Type.Boolean(),
    noObjectEmbedding: Type.Boolean(),
    multimask: Type.Union([
      Type.Null(),
      Type.Object(
        { pointCountMin: Type.Integer(), pointCountMax: Type.Integer(), whileTracking: Type.Boolean() },
        closed,
      ),
    ]),
    /** Null: no pointers in the memory. */
    pointers: Type.Union([
      Type.Null(),
      Type.Object(
        {
          countMax: Type.Integer({ minimum: 2, maximum: 256 }),
          mlp: Type.Boolean(),
          timeEncoding: Type.Union([Type.Literal("none"), Type.Literal("plain"), Type.Literal("projected")]),
          signedTime: Type.Boolean(),
          onlyPast: Type.Boolean(),
          absent: Type.Union([Type.Literal("added"), Type.Literal("replaced")]),
          softAbsence: Type.Boolean(),
        },
        closed,
      ),
    ]),
  },
  closed,
);

export const Sam2Config = Type.Object(
  {
    /** Side of the square input in pixels. */
    imageSize: Type.Integer({ minimum: 32, maximum: 4096 }),
    trunk: Trunk,
    neck: Neck,
    memoryAttention: MemoryAttention,
    memoryEncoder: MemoryEncoder,
    maskDecoder: MaskDecoder,
    tracking: Tracking,
  },
  closed,
);
export type Sam2Config = Static<typeof Sam2Config>;
export type Sam2TrunkConfig = Sam2Config["trunk"];

export type Sam2ErrorCode = "sam2.config-malformed" | "sam2.config-inconsistent";

export class Sam2Error extends Error {
  override name = "Sam2Error";
  readonly code: Sam2ErrorCode;

  constructor(code: Sam2ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** @throws Sam2Error that names every fault at once. */
export function parseSam2Config(value: unknown): Sam2Config {
  if (!Value.Check(Sam2Config, value)) {
    const faults = Value.Errors(Sam2Config, value).map((error) => `${error.instancePath} ${error.message}`);
    throw new Sam2Error("sam2.config-malformed", `Not the record of a SAM 2.1 model: ${faults.join("; ")}.`);
  }
  const faults = inconsistencies(value);
  if (faults.length > 0) throw new Sam2Error("sam2.config-inconsistent", `${faults.join("; ")}.`);
  return value;
}

/** Side of the image embedding: everything behind the neck works at this resolution. */
export function embeddingSize({ imageSize }: Sam2Config): number {
  return Math.floor(imageSize / EMBEDDING_STRIDE);
}

/** Pixels under one element of the image embedding. */
export const EMBEDDING_STRIDE = 16;

function inconsistencies(config: Sam2Config): string[] {
  const { imageSize, trunk, neck, memoryEncoder, memoryAttention, maskDecoder, tracking } = config;
  const blockCount = trunk.stages.reduce((sum, count) => sum + count, 0);
  const { downsampleRate, headCount } = memoryAttention.crossAttention;
  const projected = tracking.pointers?.timeEncoding === "projected";
  const faults: [boolean, string][] = [
    [imageSize % EMBEDDING_STRIDE !== 0, `imageSize must be a multiple of ${EMBEDDING_STRIDE}`],
    [trunk.globalBlocks.some((block) => block >= blockCount), "globalBlocks names a block that is not there"],
    [neck.channels % 8 !== 0, "neck.channels must be a multiple of 8"],
    [
      neck.channels % memoryEncoder.channels !== 0,
      "neck.channels must be a multiple of memoryEncoder.channels",
    ],
    [memoryEncoder.channels % 4 !== 0, "memoryEncoder.channels must be a multiple of 4"],
    [neck.channels % (4 * downsampleRate * headCount) !== 0, "crossAttention does not divide neck.channels"],
    [
      neck.channels % (maskDecoder.headCount * maskDecoder.attentionDownsampleRate) !== 0,
      "headCount does not divide",
    ],
    [memoryEncoder.fuser.kernelSize % 2 === 0, "fuser.kernelSize must be odd"],
    [neck.scalp !== 1, "neck.scalp must be 1: the image embedding is the level of stride 16"],
    [
      trunk.poolCount < 2,
      "trunk.poolCount must be at least 2: the image embedding is the level of stride 16",
    ],
    [projected && neck.channels % 2 !== 0, "pointers need an even number of channels"],
  ];
  return faults.filter(([wrong]) => wrong).map(([, text]) => text);
}
