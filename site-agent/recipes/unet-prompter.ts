// The UNet that finds organs on its own, and, in recipes that have one, prompts a promptable model. All its tensors are
// trained.

import {
  parsePlainConvUNetConfig,
  plainConvUNetParameters,
  plainConvUNetTrainable,
} from "@consilium/shared/model/plain-conv-unet.ts";
import { PlainConvUNet } from "../models/unet/plain-conv-unet.ts";
import { deepSupervisionLoss } from "../training/losses.ts";
import type { SliceRecipe } from "./recipe.ts";
import { sliceModel } from "./slice-model.ts";

export const unetPrompter: SliceRecipe = {
  id: "unet-prompter",
  version: 1,
  kernels: [
    "Add",
    "AddN",
    "Cast",
    "Concat",
    "Conv2D",
    "Conv2DBackpropFilter",
    "Conv2DBackpropInput",
    "Equal",
    "Exp",
    "Fill",
    "Greater",
    "GreaterEqual",
    "Identity",
    "Log",
    "Max",
    "Maximum",
    "Mean",
    "Multiply",
    "Neg",
    "OneHot",
    "OnesLike",
    "PadV2",
    "RealDiv",
    "Reshape",
    "Rsqrt",
    "Select",
    "Slice",
    "Softmax",
    "SplitV",
    "Sqrt",
    "Square",
    "StridedSlice",
    "Sub",
    "Sum",
  ],
  parameters: (config) => plainConvUNetParameters(parsePlainConvUNetConfig(config)),
  trainable: (config) => plainConvUNetTrainable(parsePlainConvUNetConfig(config)),
  open: (config, weights) => sliceModel(unetPrompter.build(config, weights), deepSupervisionLoss),
  build: (config, weights) => new PlainConvUNet(parsePlainConvUNetConfig(config), weights),
  loss: deepSupervisionLoss,
};
