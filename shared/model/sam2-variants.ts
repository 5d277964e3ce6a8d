// The sizes of SAM 2.1 as records: the four released ones, a micro one for tests, and a small one that this project has
// pretrained itself; their layers are the same and their widths are not. Tables: facebookresearch/sam2, configs/sam2.1.

import type { Sam2Config, Sam2TrunkConfig } from "./sam2.ts";

type Widths = { readonly imageSize: number; readonly channels: number; readonly memoryChannels: number };
type Attention = { readonly layerCount: number; readonly feedForwardChannels: number };

/** What all released sizes share; tracking as in the checkpoints' own configuration. */
function sam2(
  trunk: Sam2TrunkConfig,
  { imageSize, channels, memoryChannels }: Widths,
  attention: Attention,
): Sam2Config {
  const side = imageSize / 16;
  const rotary = {
    headCount: 1,
    downsampleRate: 1,
    theta: 10_000,
    gridSize: [side, side] as [number, number],
  }; // Literal.
  return {
    imageSize,
    trunk,
    neck: {
      channels,
      topDownLevels: [2, 3],
      interpolation: "nearest",
      fusion: "sum",
      scalp: 1,
      positionTemperature: 10_000,
    },
    memoryAttention: {
      ...attention,
      activation: "relu",
      selfAttention: rotary,
      crossAttention: rotary,
      positionAtInput: true,
      positionAtSelfAttention: false,
      positionAtQueries: false,
      positionAtKeys: true,
    },
    memoryEncoder: {
      channels: memoryChannels,
      positionTemperature: 10_000,
      maskDownsampler: { kernelSize: 3, stride: 2, padding: 1 },
      fuser: { layerCount: 2, kernelSize: 7, depthwise: true, layerScale: true },
    },
    maskDecoder: {
      depth: 2,
      headCount: 8,
      mlpChannels: 2048,
      attentionDownsampleRate: 2,
      multimaskCount: 3,
      iouHeadDepth: 3,
      iouHeadChannels: 256,
      iouSigmoid: true,
      highResolution: true,
      objectScore: true,
      objectScoreMlp: true,
      multimaskTokenForPointer: true,
      dynamicMultimask: { stabilityDelta: 0.05, stabilityMin: 0.98 },
    },
    tracking: {
      memoryFrameCount: 7,
      conditioningFrameCountMax: null,
      memoryStride: 1,
      maskScale: 20,
      maskBias: -10,
      binarizePromptedMasks: false,
      maskInputIsOutput: true,
      noObjectEmbedding: true,
      multimask: { pointCountMin: 0, pointCountMax: 1, whileTracking: true },
      pointers: {
        countMax: 16,
        mlp: true,
        timeEncoding: "projected",
        signedTime: true,
        onlyPast: true,
        absent: "replaced",
        softAbsence: false,
      },
    },
  };
}

function hiera(
  sizes: Pick<Sam2TrunkConfig, "embedDim" | "headCount" | "stages" | "globalBlocks"> &
    Partial<Sam2TrunkConfig>,
): Sam2TrunkConfig {
  return {
    windows: [8, 4, 14, 7],
    poolCount: 3,
    dimFactor: 2,
    headFactor: 2,
    backgroundSize: [7, 7],
    ...sizes,
  };
}

const RELEASED = { imageSize: 1024, channels: 256, memoryChannels: 64 };
const RELEASED_ATTENTION = { layerCount: 4, feedForwardChannels: 2048 };

const PRETRAINED_MICRO = sam2(
  hiera({ embedDim: 24, headCount: 1, stages: [1, 2, 3, 1], globalBlocks: [4], windows: [8, 4, 4, 4] }),
  { imageSize: 128, channels: 96, memoryChannels: 24 },
  { layerCount: 2, feedForwardChannels: 256 },
);

export const sam2Variants = {
  micro: sam2(
    hiera({ embedDim: 16, headCount: 1, stages: [1, 2, 3, 1], globalBlocks: [4] }),
    { imageSize: 128, channels: 32, memoryChannels: 8 },
    { layerCount: 2, feedForwardChannels: 64 },
  ),
  /** Every part of SAM 2.1, a quarter of the width of tiny or a little more; docs/PRETRAINING.md says how it was trained. */
  "pretrained-micro": {
    ...PRETRAINED_MICRO,
    maskDecoder: { ...PRETRAINED_MICRO.maskDecoder, headCount: 4, mlpChannels: 256, iouHeadChannels: 96 },
  },
  tiny: sam2(
    hiera({ embedDim: 96, headCount: 1, stages: [1, 2, 7, 2], globalBlocks: [5, 7, 9] }),
    RELEASED,
    RELEASED_ATTENTION,
  ),
  small: sam2(
    hiera({ embedDim: 96, headCount: 1, stages: [1, 2, 11, 2], globalBlocks: [7, 10, 13] }),
    RELEASED,
    RELEASED_ATTENTION,
  ),
  "base-plus": sam2(
    hiera({
      embedDim: 112,
      headCount: 2,
      stages: [2, 3, 16, 3],
      globalBlocks: [12, 16, 20],
      backgroundSize: [14, 14],
    }),
    RELEASED,
    RELEASED_ATTENTION,
  ),
  large: sam2(
    hiera({
      embedDim: 144,
      headCount: 2,
      stages: [2, 6, 36, 4],
      globalBlocks: [23, 33, 43],
      windows: [8, 4, 16, 8],
    }),
    RELEASED,
    RELEASED_ATTENTION,
  ),
} satisfies Readonly<Record<string, Sam2Config>>;
export type Sam2VariantName = keyof typeof sam2Variants;

/** The same model for another input size: its tensors do not change. */
export function withImageSize(config: Sam2Config, imageSize: number): Sam2Config {
  return { ...config, imageSize };
}
