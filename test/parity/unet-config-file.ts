// The configuration of an nnU-Net PlainConvUNet and the sentence on its loss, read whole. What this project's network
// cannot be fails by its name.

import {
  type PlainConvUNetConfig,
  parsePlainConvUNetConfig,
} from "@consilium/shared/model/plain-conv-unet.ts";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { CaseError, type CaseFolder } from "./case-folder.ts";
import type { DiceCrossEntropySettings } from "./dice-cross-entropy.ts";

const PerStage = Type.Union([Type.Integer(), Type.Array(Type.Integer())]);
const Size = Type.Union([Type.Integer(), Type.Tuple([Type.Integer(), Type.Integer()])]);
const Kwargs = Type.Union([Type.Null(), Type.Object({}, { additionalProperties: false })]);

const OfficialConfig = Type.Object(
  {
    input_channels: Type.Integer(),
    n_stages: Type.Integer(),
    features_per_stage: Type.Array(Type.Integer()),
    conv_op: Type.Literal("Conv2d"),
    kernel_sizes: Type.Array(Size),
    strides: Type.Array(Size),
    n_conv_per_stage: PerStage,
    num_classes: Type.Integer(),
    n_conv_per_stage_decoder: PerStage,
    conv_bias: Type.Literal(true),
    norm_op: Type.Literal("InstanceNorm2d"),
    norm_op_kwargs: Type.Object(
      { eps: Type.Literal(1e-5), affine: Type.Literal(true) },
      { additionalProperties: false },
    ),
    dropout_op: Type.Optional(Type.Null()),
    dropout_op_kwargs: Type.Optional(Kwargs),
    nonlin: Type.Literal("LeakyReLU"),
    nonlin_kwargs: Type.Union([
      Type.Null(),
      Type.Object(
        { inplace: Type.Optional(Type.Boolean()), negative_slope: Type.Optional(Type.Literal(0.01)) },
        { additionalProperties: false },
      ),
    ]),
    nonlin_first: Type.Optional(Type.Literal(false)),
    deep_supervision: Type.Boolean(),
  },
  { additionalProperties: false },
);
type Official = Static<typeof OfficialConfig>;

/** @throws CaseError, PlainConvUNetError that name what is not understood */
export function readUNetConfig(value: unknown): PlainConvUNetConfig {
  if (!Value.Check(OfficialConfig, value)) {
    const faults = Value.Errors(OfficialConfig, value).map(
      ({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`,
    );
    throw new CaseError(`config.json is not understood: ${faults.join("; ")}`);
  }
  if (value.n_stages !== value.features_per_stage.length)
    throw new CaseError("config.json contradicts itself: n_stages");
  return parsePlainConvUNetConfig({
    inputChannels: value.input_channels,
    featuresPerStage: value.features_per_stage,
    kernelSizes: value.kernel_sizes.map(pair),
    strides: value.strides.map(pair),
    convsPerStage: perStage(value.n_conv_per_stage, value.n_stages),
    convsPerStageDecoder: perStage(value.n_conv_per_stage_decoder, value.n_stages - 1),
    classCount: value.num_classes,
    deepSupervision: value.deep_supervision,
  });
}

function pair(size: Official["strides"][number]): readonly number[] {
  return typeof size === "number" ? [size, size] : size;
}

function perStage(counts: Official["n_conv_per_stage"], stageCount: number): number[] {
  return typeof counts === "number" ? Array.from({ length: stageCount }, () => counts) : counts;
}

export type UNetLoss = DiceCrossEntropySettings & {
  /** True when the weight of the lowest of several levels is 0. */
  readonly dropsLowest: boolean;
};

const DICE = /MemoryEfficientSoftDiceLoss\(([^)]*)\)/;
const FACTOR = /^weights? ([\d.]+)(?: each|\/([\d.]+))/;

/** @throws CaseError where the sentence is missing or says something that is not known */
export function readUNetLoss({ notes }: CaseFolder): UNetLoss {
  const told = String(notes["train/loss"] ?? "");
  const dice = DICE.exec(told)?.[1];
  if (dice === undefined || !told.startsWith("nnU-Net DC_and_CE_loss:"))
    throw new CaseError("the note train/loss is missing or not understood");
  const settings = new Map(dice.split(",").map((one) => one.trim().split("=") as [string, string])); // name=value.
  const unknown = [...settings.keys()].filter((key) => !["batch_dice", "smooth", "do_bg"].includes(key));
  if (unknown.length > 0) throw new CaseError(`the note train/loss is not understood: ${unknown.join(", ")}`);
  const after = told.slice(told.indexOf(dice) + dice.length).replace(/^\) \+ CE,? ?/, "");
  const [, entropyWeight = "1", diceWeight = entropyWeight] = FACTOR.exec(after) ?? [];
  return {
    batchDice: settings.get("batch_dice") === "True",
    smooth: Number(settings.get("smooth") ?? 1),
    background: (settings.get("do_bg") ?? "True") === "True",
    entropyWeight: Number(entropyWeight),
    diceWeight: Number(diceWeight),
    dropsLowest: /last one 0/.test(told),
  };
}
