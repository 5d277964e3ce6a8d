// What training a promptable model looks at: the masks of every stage of refinement, the model's own estimate of their
// overlap, and whether it sees the object. An organ that was not contoured in a case is unknown there, not absent: its
// objects count nowhere.
// B objects, M masks of each, S side of the target.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import { expectShape } from "../backend/shape.ts";
import { tf } from "../backend/tensors.ts";
import { withoutGradient } from "../models/nn/without-gradient.ts";
import {
  type MaskLosses,
  type MaskLossSettings,
  type MaskPrediction,
  maskLosses,
  OFFICIAL_MASK_LOSS,
} from "../models/sam2/mask-losses.ts";

export type PromptableLossSettings = {
  readonly masks: MaskLossSettings;
  /** One for every stage, from the first. */
  readonly stageWeights: readonly number[];
};

/**
 * For adapters. Inferred: RFMedSAM 2 publishes neither losses nor weights. Soft Dice and cross-entropy of the masks with
 * weight 1 each, and a tenth each of the squared error of the estimated overlap and of the object score, the same in both
 * stages.
 */
export const ADAPTER_LOSS: PromptableLossSettings = {
  masks: {
    ...OFFICIAL_MASK_LOSS,
    weights: { mask: 1, dice: 1, iou: 0.1, object: 0.1 },
    // Cross-entropy is the focal loss without its balance and without its focus.
    focalAlpha: -1,
    focalGamma: 0,
    absoluteIouError: false,
  },
  stageWeights: [1, 1],
};

/** For a whole model in one stage: SAM 2's own, focal and dice 20 to 1 (Ravi et al. 2024). */
export const PRETRAINING_LOSS: PromptableLossSettings = { masks: OFFICIAL_MASK_LOSS, stageWeights: [1] };

export type PromptableTarget = {
  /** 0 and 1, [B, S, S]; an object that is absent from the slice has no pixel. */
  readonly masks: tf.Tensor3D;
  /** For every object: whether its organ was contoured in this case. */
  readonly contoured: readonly boolean[];
};

export type PromptableLosses = {
  readonly total: tf.Scalar;
  /** Before they are weighed, in the order of the stages. */
  readonly stages: readonly MaskLosses[];
};

/**
 * The mean over the contoured objects; zero, with gradients of zero, where there is none.
 * @param stages the answers of every stage for the same objects, masks as large as the target's
 */
export function promptableLoss(
  stages: readonly MaskPrediction[],
  target: PromptableTarget,
  { masks: settings, stageWeights }: PromptableLossSettings,
): PromptableLosses {
  assert(stages.length === stageWeights.length, "every stage has a weight");
  expectShape(target.masks, [target.contoured.length, "S", "S"]);
  return tf.tidy(() => {
    const losses = stages.map((stage) => stageLosses(stage, target, settings));
    const weighed = losses.map(({ total }, stage) =>
      tf.mul(total, expectDefined(stageWeights[stage], "weight of a stage")),
    );
    return { total: tf.addN(weighed) as tf.Scalar, stages: losses }; // A sum of scalars.
  });
}

function stageLosses(
  stage: MaskPrediction,
  { masks, contoured }: PromptableTarget,
  settings: MaskLossSettings,
): MaskLosses {
  const known = contoured.flatMap((isContoured, index) => (isContoured ? [index] : []));
  if (known.length === 0) return noLosses(stage);
  if (known.length === contoured.length) return maskLosses(stage, masks, settings);
  const indices = tf.tensor1d(known, "int32");
  const rows = <T extends tf.Tensor>(tensor: T): T => tf.gather(tensor, indices);
  const { candidates, ious, objectScores } = stage;
  const of = { candidates: rows(candidates), ious: rows(ious), objectScores: rows(objectScores) };
  return maskLosses(of, rows(masks), settings);
}

function noLosses({ candidates, ious, objectScores }: MaskPrediction): MaskLosses {
  const zero = withoutGradient({ candidates, ious, objectScores }, () => tf.scalar(0)) as tf.Scalar; // As computed.
  return { mask: zero, dice: zero, iou: zero, object: zero, total: zero };
}
