// What the site agent has to know of a recipe beyond its tensors: how to build a model that runs and trains, and how to
// judge what it says. A recipe is a value; a study plan names one and gives its configuration.

import type { ParameterSpec } from "@consilium/shared/model/parameter-manifest.ts";
import type { tf } from "../backend/tensors.ts";
import type { Parameters, Weights } from "../models/parameters.ts";
import type { SegmentationTarget } from "../training/losses.ts";

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
  build(config: unknown, weights: Weights): TrainableModel;
  /** The loss of a forward pass, a scalar. */
  loss(levels: readonly tf.Tensor4D[], target: SegmentationTarget): tf.Scalar;
};
