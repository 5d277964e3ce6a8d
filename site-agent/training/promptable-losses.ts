// What training adapters of a promptable model looks at: its masks, its own estimate of their overlap, and whether it sees
// the object.

import { type MaskLossSettings, OFFICIAL_MASK_LOSS } from "../models/sam2/mask-losses.ts";

/**
 * For adapters. Inferred: RFMedSAM 2 publishes neither losses nor weights. Soft Dice and cross-entropy of the masks with
 * weight 1 each, and a tenth each of the squared error of the estimated overlap and of the object score.
 */
export const ADAPTER_LOSS: MaskLossSettings = {
  ...OFFICIAL_MASK_LOSS,
  weights: { mask: 1, dice: 1, iou: 0.1, object: 0.1 },
  // Cross-entropy is the focal loss without its balance and without its focus.
  focalAlpha: -1,
  focalGamma: 0,
  absoluteIouError: false,
};
