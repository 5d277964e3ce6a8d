// A training step that both sides take: written once as files that PyTorch reads, opened again where it is measured here.

import type { ParameterSpec } from "@consilium/shared/model/parameter-manifest.ts";
import type { TensorLayout } from "../../site-agent/models/tensor-layout.ts";
import type { Differentiated, TrainedParameters } from "../../site-agent/recipes/recipe.ts";
import type { OptimiserPlan } from "../../site-agent/training/optimiser.ts";

export type PyTorchStep = {
  /** What stands in the row of a result. */
  readonly row: { readonly model: string; readonly pixels: number; readonly batch: number };
  /** Beside this file; it is given the folder. */
  readonly script: string;
  readonly runs: number;
  /** Weights, batch and task for the script and for `open`. */
  readonly write: (folder: string) => Promise<void>;
  readonly open: (folder: string) => Promise<OpenedStep>;
};

export type OpenedStep = {
  readonly parameters: TrainedParameters;
  /** The trained tensors in their order, under PyTorch's names. */
  readonly specs: readonly ParameterSpec[];
  readonly layoutOf: (spec: ParameterSpec) => TensorLayout;
  readonly plan: OptimiserPlan & { readonly learningRate: number };
  readonly differentiate: () => Promise<Differentiated>;
};
