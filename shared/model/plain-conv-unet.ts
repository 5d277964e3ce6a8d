// nnU-Net's PlainConvUNet in two dimensions as a record: which layers it has and how nnU-Net's own state dict names
// their tensors. It computes no image: the coordinator makes a start model from it without a tensor library, and the
// site agent builds the same layers out of tensors.
// Source: Isensee et al. 2021; dynamic_network_architectures, class PlainConvUNet.

import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { expectDefined } from "../base/assert.ts";
import type { ParameterSpec } from "./parameter-manifest.ts";

const STAGE_COUNT_MAX = 9;
const KERNEL_SIZE_MAX = 15;
const STRIDE_MAX = 4;

const Channels = Type.Integer({ minimum: 1, maximum: 2048 });
const KernelSize = Type.Integer({ minimum: 1, maximum: KERNEL_SIZE_MAX });
const Stride = Type.Integer({ minimum: 1, maximum: STRIDE_MAX });
const ConvCount = Type.Integer({ minimum: 1, maximum: 8 });
const perStage = { minItems: 2, maxItems: STAGE_COUNT_MAX };
const perDecoderStage = { minItems: 1, maxItems: STAGE_COUNT_MAX - 1 };

/** Heights come before widths. The encoder's lists run from full resolution down, the decoder's from the lowest up. */
export const PlainConvUNetConfig = Type.Object(
  {
    inputChannels: Type.Integer({ minimum: 1, maximum: 64 }),
    featuresPerStage: Type.Array(Channels, perStage),
    /** Odd sizes. */
    kernelSizes: Type.Array(Type.Tuple([KernelSize, KernelSize]), perStage),
    strides: Type.Array(Type.Tuple([Stride, Stride]), perStage),
    convsPerStage: Type.Array(ConvCount, perStage),
    convsPerStageDecoder: Type.Array(ConvCount, perDecoderStage),
    /** Background included. */
    classCount: Type.Integer({ minimum: 2, maximum: 255 }),
    deepSupervision: Type.Boolean(),
  },
  { additionalProperties: false },
);
export type PlainConvUNetConfig = Static<typeof PlainConvUNetConfig>;

type Size2 = readonly [height: number, width: number];

/** Convolution, instance norm and leaky ReLU under one name. */
export type ConvBlockSpec = {
  readonly name: string;
  readonly inChannels: number;
  readonly outChannels: number;
  readonly kernelSize: Size2;
  readonly stride: Size2;
};

/** Up-sampling, the blocks after the skip connection was attached, and the classes of this resolution. */
export type DecoderStageSpec = {
  readonly upsampling: ConvBlockSpec;
  readonly blocks: readonly ConvBlockSpec[];
  readonly head: ConvBlockSpec;
};

export type PlainConvUNetErrorCode = "unet.config-malformed" | "unet.config-inconsistent";

export class PlainConvUNetError extends Error {
  override name = "PlainConvUNetError";
  readonly code: PlainConvUNetErrorCode;

  constructor(code: PlainConvUNetErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

/** @throws PlainConvUNetError that names every fault at once. */
export function parsePlainConvUNetConfig(value: unknown): PlainConvUNetConfig {
  if (!Value.Check(PlainConvUNetConfig, value)) {
    const faults = Value.Errors(PlainConvUNetConfig, value).map(
      (error) => `${error.instancePath} ${error.message}`,
    );
    throw new PlainConvUNetError("unet.config-malformed", `Not the record of a UNet: ${faults.join("; ")}.`);
  }
  const stageCount = value.featuresPerStage.length;
  const lengths = { kernelSizes: stageCount, strides: stageCount, convsPerStage: stageCount };
  const faults = Object.entries({ ...lengths, convsPerStageDecoder: stageCount - 1 })
    .filter(([key, length]) => value[key as keyof typeof lengths].length !== length) // The keys are the literal's own.
    .map(([key, length]) => `${key} needs ${length} entries`);
  if (value.kernelSizes.flat().some((size) => size % 2 === 0)) faults.push("kernelSizes must be odd");
  if (faults.length > 0) throw new PlainConvUNetError("unet.config-inconsistent", `${faults.join("; ")}.`);
  return value;
}

/** The convolution blocks of every encoder stage; a stage's stride belongs to its first block. */
export function encoderStages(config: PlainConvUNetConfig): ConvBlockSpec[][] {
  return config.featuresPerStage.map((features, stage) =>
    stackedBlocks(`encoder.stages.${stage}.0`, {
      count: at(config.convsPerStage, stage),
      inChannels: stage === 0 ? config.inputChannels : at(config.featuresPerStage, stage - 1),
      outChannels: features,
      kernelSize: at(config.kernelSizes, stage),
      stride: at(config.strides, stage),
    }),
  );
}

/** Decoder stages from the lowest resolution up; stage `s` joins the encoder's stage `count - s`. */
export function decoderStages(config: PlainConvUNetConfig): DecoderStageSpec[] {
  const lowest = config.featuresPerStage.length - 1;
  return config.convsPerStageDecoder.map((count, index) => {
    const skip = lowest - index - 1;
    const outChannels = at(config.featuresPerStage, skip);
    const stride = at(config.strides, skip + 1);
    const below = at(config.featuresPerStage, skip + 1);
    const name = `decoder.transpconvs.${index}`;
    const kernelSize = at(config.kernelSizes, skip);
    return {
      upsampling: { name, inChannels: below, outChannels, kernelSize: stride, stride },
      blocks: stackedBlocks(`decoder.stages.${index}`, {
        count,
        inChannels: 2 * outChannels,
        outChannels,
        kernelSize,
        stride: UNIT,
      }),
      head: {
        name: `decoder.seg_layers.${index}`,
        inChannels: outChannels,
        outChannels: config.classCount,
        kernelSize: UNIT,
        stride: UNIT,
      },
    };
  });
}

/** All tensors in the order of nnU-Net's state dict, each once: the aliases that it also stores are left out. */
export function plainConvUNetParameters(config: PlainConvUNetConfig): ParameterSpec[] {
  const decoder = decoderStages(config);
  return [
    ...encoderStages(config).flat().flatMap(blockParameters),
    ...decoder.flatMap(({ blocks }) => blocks.flatMap(blockParameters)),
    ...decoder.flatMap(({ upsampling }) => upsamplingParameters(upsampling)),
    ...decoder.flatMap(({ head }) => convParameters(head.name, head)),
  ];
}

/**
 * The tensors that training can change, in the same order. Left out: the bias of a convolution under an instance norm,
 * which subtracts it again, and heads that no loss term looks at.
 */
export function plainConvUNetTrainable(config: PlainConvUNetConfig): ParameterSpec[] {
  const decoder = decoderStages(config);
  const silent = decoder
    .slice(0, decoder.length - supervisedLevelCount(config))
    .map(({ head }) => `${head.name}.`);
  return plainConvUNetParameters(config).filter(
    ({ name }) => !name.endsWith(".conv.bias") && !silent.some((prefix) => name.startsWith(prefix)),
  );
}

/** Outputs that take part in the loss, from full resolution down; nnU-Net gives the lowest of several weight 0. */
export function supervisedLevelCount(config: PlainConvUNetConfig): number {
  return config.deepSupervision ? Math.max(1, config.featuresPerStage.length - 2) : 1;
}

/** Height and width of an image must be multiples of these. */
export function imageSizeMultiple(config: PlainConvUNetConfig): Size2 {
  return config.strides.reduce<Size2>(([height, width], [dy, dx]) => [height * dy, width * dx], UNIT);
}

const UNIT: Size2 = [1, 1];

type StackedBlocks = Omit<ConvBlockSpec, "name"> & { readonly count: number };

function stackedBlocks(name: string, stack: StackedBlocks): ConvBlockSpec[] {
  const { count, inChannels, outChannels, kernelSize, stride } = stack;
  return Array.from({ length: count }, (_, index) => ({
    name: `${name}.convs.${index}`,
    inChannels: index === 0 ? inChannels : outChannels,
    outChannels,
    kernelSize,
    stride: index === 0 ? stride : UNIT,
  }));
}

function blockParameters(block: ConvBlockSpec): ParameterSpec[] {
  const { name, outChannels } = block;
  const norm = ["weight", "bias"].map((part) => spec(`${name}.norm.${part}`, [outChannels]));
  return [...convParameters(`${name}.conv`, block), ...norm];
}

/** PyTorch's order: output channels, input channels, height, width. */
function convParameters(
  name: string,
  { inChannels, outChannels, kernelSize }: ConvBlockSpec,
): ParameterSpec[] {
  return [
    spec(`${name}.weight`, [outChannels, inChannels, ...kernelSize]),
    spec(`${name}.bias`, [outChannels]),
  ];
}

/** PyTorch stores a transposed convolution with the input channels first. */
function upsamplingParameters({ name, inChannels, outChannels, kernelSize }: ConvBlockSpec): ParameterSpec[] {
  return [
    spec(`${name}.weight`, [inChannels, outChannels, ...kernelSize]),
    spec(`${name}.bias`, [outChannels]),
  ];
}

function spec(name: string, shape: number[]): ParameterSpec {
  return { name, shape, dtype: "F32" };
}

function at<T>(list: readonly T[], index: number): T {
  return expectDefined(list[index], `entry ${index} of a checked list`);
}
