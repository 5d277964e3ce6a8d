// What the site agent has to know of a recipe beyond its tensors: how to build a model that runs and trains, what a
// batch of it is, and how it answers for a stack of slices. A recipe is a value; a study plan names one and gives its
// configuration.

import type { Prng } from "@consilium/shared/base/prng.ts";
import type { ParameterSpec } from "@consilium/shared/model/parameter-manifest.ts";
import type { PreprocessingPlan } from "@consilium/shared/model/preprocessing-plan.ts";
import type { CompileWarning } from "../backend/graph/compile-step.ts";
import type { tf } from "../backend/tensors.ts";
import type { Parameters, Weights } from "../models/parameters.ts";
import type { MirrorAxis } from "../preprocessing/augment-geometry.ts";
import type { SegmentationTarget } from "../training/losses.ts";
import type { TrainingSlice } from "../training/training-slice.ts";

/** The tensors that training changes, in the order of the delta, wherever a model keeps them. */
export type TrainedParameters = Pick<Parameters, "trainable" | "trainableNames" | "export" | "replace"> & {
  /** Those that learn at a share of the plan's rate. */
  readonly learningRateShares?: ReadonlyMap<string, number>;
};

/** A loss and its gradients, one for every trainable tensor in their order; they belong to the caller. */
export type Differentiated = { readonly value: tf.Scalar; readonly grads: readonly tf.Tensor[] };

/** Draws the next batch and differentiates its loss. */
export type Objective = () => Promise<Differentiated>;

/** What a site brings to training. */
export type TrainingMaterial = {
  /** The slices of every case, in their order. */
  readonly cases: readonly (readonly TrainingSlice[])[];
  /** Label id of each class, background first. */
  readonly labels: readonly number[];
  /** Samples of a batch; the recipe says what a sample is. */
  readonly batchSize: number;
  readonly seed: number;
  /** Changed copies of slices that lie one after another, all changed in the same way and of one size. */
  readonly view: (slices: readonly TrainingSlice[], prng: Prng) => TrainingSlice[];
  /** Hears where a computation could not be compiled. */
  readonly onWarning?: (warning: CompileWarning) => void;
};

export type PredictionView = {
  readonly plan: PreprocessingPlan;
  /** Label of each class, background first. */
  readonly labels: readonly number[];
  /** Axes along which predictions are also made on the mirror image and averaged. */
  readonly mirrorAxes: readonly MirrorAxis[];
};

/**
 * Probabilities [height, width, classes] of the wanted slices, in their order, which is ascending.
 * @param slices a whole volume
 */
export type StackPredictor = (
  slices: readonly TrainingSlice[],
  wanted: readonly number[],
) => AsyncGenerator<Float32Array>;

/** Told for every object that a stage was asked for, whether its mask took the place of the prompter's. */
export type StageTally = (stage: string, isReplaced: boolean) => void;

/**
 * Probabilities [height, width, classes] of every slice in turn, by stage.
 * @param slices a whole volume with its labels
 */
export type StagePredictor = (
  slices: readonly TrainingSlice[],
  tally: StageTally,
) => AsyncGenerator<ReadonlyMap<string, Float32Array>>;

/** Whose prompts an answer in stages starts from; those of the truth are drawn from the labels with a seed. */
export const PROMPT_SOURCES = ["prompter", "prompter-boxes", "truth-boxes", "truth-points"] as const;
export type PromptSource = (typeof PROMPT_SOURCES)[number];

/**
 * `automatic`: the stages of the answer itself. Else the stages from prompts of these sources, also without the
 * prompter's word, and what a filled box is worth.
 */
export type AskedStages = { readonly which: "automatic" | readonly PromptSource[]; readonly seed: number };

/** A model with weights, ready for whatever the agent does with one. */
export type RecipeModel = {
  readonly parameters: TrainedParameters;
  objective(material: TrainingMaterial): Objective;
  predictor(view: PredictionView): StackPredictor;
  /** Where an answer has stages. */
  readonly stages?: (view: PredictionView, asked: AskedStages) => StagePredictor;
  dispose(): void;
};

export type Recipe = {
  readonly id: string;
  readonly version: number;
  /** The framework's kernels that training and prediction call, forward and backward. */
  readonly kernels: readonly string[];
  /** All tensors of a weights file, in their order. @throws when the configuration is not one of this recipe */
  parameters(config: unknown): ParameterSpec[];
  /** The tensors of an update, in their order. */
  trainable(config: unknown): ParameterSpec[];
  /** @throws WeightsError when the weights are not those of `parameters`. */
  open(config: unknown, weights: Weights): RecipeModel;
};

/** B batch, H W spatial, C channels, K classes with background first. Layout is NHWC throughout. */
export type TrainableModel = {
  readonly parameters: Parameters;
  readonly inputChannels: number;
  /** Background included. */
  readonly classCount: number;
  /** Images [B, H, W, C] -> logits of every level that the loss looks at, full resolution [B, H, W, K] first. */
  forward(images: tf.Tensor4D): tf.Tensor4D[];
  /** Images [B, H, W, C] -> full-resolution logits [B, H, W, K]. */
  predict(images: tf.Tensor4D): tf.Tensor4D;
  dispose(): void;
};

/** A recipe whose model sees one slice at a time. */
export type SliceRecipe = Recipe & {
  /** @throws WeightsError when the weights are not those of `parameters`. */
  build(config: unknown, weights: Weights): TrainableModel;
  /** The loss of a forward pass, a scalar. */
  loss(levels: readonly tf.Tensor4D[], target: SegmentationTarget): tf.Scalar;
};
