// nnU-Net's segmentation loss (Isensee et al. 2021): cross-entropy minus the soft Dice of a batch, over several
// resolutions. It is a marginal loss (Shi et al. 2021) where a case has only some of the study's organs drawn: there
// the background may be any organ that was not drawn, so its probability is the sum of theirs, and such an organ has
// no Dice term. With every organ drawn it is the plain loss.
// B batch, H W spatial, K classes with background first. Layout is NHWC throughout.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import { withGradient } from "../backend/custom-gradient.ts";
import { DICE_CROSS_ENTROPY, hasKernel, runKernel } from "../backend/fused-kernel.ts";
import { expectShape } from "../backend/shape.ts";
import { tf } from "../backend/tensors.ts";

/** nnU-Net's constant: Dice of an absent organ that is predicted nowhere is 1. */
const SMOOTH = 1e-5;
const DENOMINATOR_MIN = 1e-8;
/** Far below every logit, and finite in float32. */
const EXCLUDED = -1e30;

export type SegmentationTarget = {
  /** [B, H, W] int32 class indices. */
  readonly classes: tf.Tensor3D;
  /** [B, K] float32: 1 where the class was drawn in the image, else 0. The background counts as drawn. */
  readonly drawn: tf.Tensor2D;
};

/**
 * @param logits [B, H, W, K] float32
 * @returns a scalar; it can be negative, because Dice is subtracted
 */
export function diceCrossEntropy(logits: tf.Tensor4D, { classes, drawn }: SegmentationTarget): tf.Scalar {
  const { B = 0, H = 0, W = 0, K = 0 } = expectShape(logits, ["B", "H", "W", "K"]);
  expectShape(classes, [B, H, W]);
  expectShape(drawn, [B, K]);
  if (!hasKernel(DICE_CROSS_ENTROPY)) return composedLoss(logits, { classes, drawn });
  const value = withGradient<{ logits: tf.Tensor }, { gradient: tf.Tensor }>(
    { logits },
    {
      forward: (given) => {
        const inputs = { ...given, targets: classes, drawn };
        const outputs = runKernel(DICE_CROSS_ENTROPY, inputs, { smooth: SMOOTH });
        const [value, gradient] = outputs as [tf.Tensor, tf.Tensor]; // Two, as the kernel's name says.
        return { value, kept: { gradient } };
      },
      backward: (dy, { gradient }) => ({ logits: tf.mul(gradient, dy) }),
    },
  );
  return value as tf.Scalar; // The kernel's first output.
}

/** The same from the framework's operations, for backends without the kernel. */
export function composedLoss(logits: tf.Tensor4D, { classes, drawn }: SegmentationTarget): tf.Scalar {
  return tf.tidy(() => {
    const [batch, , , classCount] = logits.shape;
    const drawnRow = tf.reshape(drawn, [batch, 1, 1, classCount]);
    const labelled = tf.mul(tf.oneHot(classes, classCount), drawnRow);
    // Background, and labels of an organ that was not drawn: any class of the group may be true.
    const unknown = tf.sub(1, tf.sum(tf.slice(labelled, [0, 0, 0, 1]), 3, true));
    const background = tf.oneHot(tf.tensor1d([0], "int32"), classCount);
    const group = tf.add(
      tf.mul(unknown, tf.add(tf.sub(1, drawnRow), background)),
      tf.mul(labelled, tf.sub(1, background)),
    );
    const ofGroup = tf.logSumExp(tf.add(logits, tf.mul(tf.sub(1, group), EXCLUDED)), 3);
    const crossEntropy = tf.mean(tf.sub(tf.logSumExp(logits, 3), ofGroup));
    return tf.sub(crossEntropy, meanDice(tf.softmax(logits), labelled, drawnRow)) as tf.Scalar; // A difference of scalars.
  });
}

/** Mean over the organs that any image of the batch has drawn; sums run over the images that have. */
function meanDice(probabilities: tf.Tensor, labelled: tf.Tensor, drawnRow: tf.Tensor): tf.Tensor {
  const overPixels = [0, 1, 2];
  const intersection = tf.sum(tf.mul(probabilities, labelled), overPixels);
  const total = tf.add(tf.sum(tf.mul(probabilities, drawnRow), overPixels), tf.sum(labelled, overPixels));
  const denominator = tf.maximum(tf.add(total, SMOOTH), DENOMINATOR_MIN);
  const dice = tf.div(tf.add(tf.mul(intersection, 2), SMOOTH), denominator);
  const scored = tf.slice(tf.max(drawnRow, overPixels), [1]);
  return tf.div(tf.sum(tf.mul(tf.slice(dice, [1]), scored)), tf.maximum(tf.sum(scored), 1));
}

/** 1, 1/2, 1/4, ... from full resolution down, with sum 1. */
export function levelWeights(levelCount: number): number[] {
  const weights = Array.from({ length: levelCount }, (_, level) => 2 ** -level);
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}

/**
 * The weighted loss of all levels, full resolution first.
 * @param target at full resolution; a lower level sees every stride-th pixel from stride / 2 on, as nnU-Net samples it
 */
export function deepSupervisionLoss(levels: readonly tf.Tensor4D[], target: SegmentationTarget): tf.Scalar {
  const weights = levelWeights(levels.length);
  const losses = levels.map((logits, level) => {
    const classes = sampledClasses(target.classes, logits.shape);
    return tf.mul(
      diceCrossEntropy(logits, { ...target, classes }),
      expectDefined(weights[level], "level weight"),
    );
  });
  return tf.addN(losses) as tf.Scalar; // A sum of scalars.
}

function sampledClasses(classes: tf.Tensor3D, [batch, height, width]: tf.Tensor4D["shape"]): tf.Tensor3D {
  const [, fullHeight, fullWidth] = classes.shape;
  if (fullHeight === height && fullWidth === width) return classes;
  const [rows, columns] = [fullHeight / height, fullWidth / width];
  assert(Number.isInteger(rows) && Number.isInteger(columns), "a level divides the full resolution");
  const start = [0, Math.floor(rows / 2), Math.floor(columns / 2)];
  return tf.stridedSlice(classes, start, [batch, fullHeight, fullWidth], [1, rows, columns]) as tf.Tensor3D; // Same rank.
}
