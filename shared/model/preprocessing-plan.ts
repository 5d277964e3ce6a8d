// How a volume becomes slices for the network and how a prediction finds its way back: one record that every site of a
// study applies unchanged. It holds choices only; what is random about training lives in the training plan.

import { type Static, Type } from "typebox";

const strict = { additionalProperties: false } as const;

export const PATCH_EDGE_MIN = 16;
export const PATCH_EDGE_MAX = 1024;
const PatchEdge = Type.Integer({ minimum: PATCH_EDGE_MIN, maximum: PATCH_EDGE_MAX });
const SpacingMm = Type.Number({ minimum: 0.05, maximum: 50 });
const Intensity = Type.Number({ minimum: -1e9, maximum: 1e9 });

/** Intensities are clipped to the volume's own 0.5th and 99.5th percentile, then brought to mean 0 and deviation 1. */
export const ZScoreNormalisation = Type.Object({ kind: Type.Literal("zscore") }, strict);

/** nnU-Net's CT rule: clip to [low, high], subtract mean, divide by std, all from the foreground of the whole study. */
export const CtNormalisation = Type.Object(
  {
    kind: Type.Literal("ct"),
    low: Intensity,
    high: Intensity,
    mean: Intensity,
    std: Type.Number({ exclusiveMinimum: 0, maximum: 1e9 }),
  },
  strict,
);

export const Normalisation = Type.Union([ZScoreNormalisation, CtNormalisation]);
export type Normalisation = Static<typeof Normalisation>;

/** The canonical axis along which a volume is cut: R gives sagittal slices, A coronal ones, S axial ones. */
export const SliceAxis = Type.Union([Type.Literal("R"), Type.Literal("A"), Type.Literal("S")]);
export type SliceAxis = Static<typeof SliceAxis>;

export const PreprocessingPlan = Type.Object(
  {
    /** Volumes are turned to these axes first; slices are then laid out as a radiologist sees them. */
    orientation: Type.Literal("RAS"),
    sliceAxis: SliceAxis,
    /** Pixel edge within a slice; null keeps each volume's own. */
    inPlaneSpacingMm: Type.Union([SpacingMm, Type.Null()]),
    /** Distance between slices; null keeps each volume's own. */
    throughPlaneSpacingMm: Type.Union([SpacingMm, Type.Null()]),
    /** Spline order with which intensities are resampled. */
    imageOrder: Type.Union([Type.Literal(1), Type.Literal(3)]),
    /** Pixels that the network sees at once. */
    patch: Type.Object({ height: PatchEdge, width: PatchEdge }, strict),
    /** What happens to a slice larger than the patch: its centre is used, or windows slide over it. */
    largerThanPatch: Type.Union([Type.Literal("crop"), Type.Literal("window")]),
    /** What a slice smaller than the patch is filled up with: its volume's lowest normalised value, or 0. */
    padding: Type.Union([Type.Literal("minimum"), Type.Literal("zero")]),
    /** Neighbouring slices on each side given as extra channels: 0 makes one channel, 1 makes three. */
    contextSlices: Type.Union([Type.Literal(0), Type.Literal(1)]),
    normalisation: Normalisation,
  },
  strict,
);
export type PreprocessingPlan = Static<typeof PreprocessingPlan>;
