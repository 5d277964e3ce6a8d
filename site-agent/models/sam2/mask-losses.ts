// The official losses for training SAM 2: focal (Lin et al. 2017) and dice on masks, the error of the estimated overlap,
// and whether the object is there. Of several masks only the one with the lowest weighted loss is trained; mask terms of
// absent objects count nothing. Source: facebookresearch/sam2, training/loss_fns.py.
// B objects, M masks of each, S side of the target.

import { expectShape } from "../../backend/shape.ts";
import { tf } from "../../backend/tensors.ts";
import { relu } from "../nn/relu.ts";
import { withoutGradient } from "../nn/without-gradient.ts";

export type MaskLossSettings = {
  readonly weights: {
    readonly mask: number;
    readonly dice: number;
    readonly iou: number;
    readonly object: number;
  };
  readonly focalAlpha: number;
  readonly focalGamma: number;
  /** Below zero: objects that are there and absent ones weigh the same. */
  readonly objectAlpha: number;
  readonly objectGamma: number;
  /** The estimates of all masks are trained, not the chosen mask's alone. */
  readonly superviseAllIous: boolean;
  /** The estimate's absolute error, not its square. */
  readonly absoluteIouError: boolean;
  readonly scoreObjects: boolean;
};

export const OFFICIAL_MASK_LOSS: MaskLossSettings = {
  weights: { mask: 20, dice: 1, iou: 1, object: 1 },
  focalAlpha: 0.25,
  focalGamma: 2,
  objectAlpha: -1,
  objectGamma: 0,
  superviseAllIous: true,
  absoluteIouError: true,
  scoreObjects: true,
};

export type MaskPrediction = {
  /** Logits [B, M, S, S]. */
  readonly candidates: tf.Tensor4D;
  /** [B, M] */
  readonly ious: tf.Tensor2D;
  /** Logits [B, 1]. */
  readonly objectScores: tf.Tensor2D;
};

export type MaskLosses = {
  readonly mask: tf.Scalar;
  readonly dice: tf.Scalar;
  readonly iou: tf.Scalar;
  readonly object: tf.Scalar;
  /** The weighted sum. */
  readonly total: tf.Scalar;
};

const DICE_SMOOTH = 1;
/** Of a pixel, from which it counts to the object where overlaps are measured. */
const HALF = 0.5;

/**
 * The mean over objects.
 * @param targets 0 and 1, or the share of each pixel that the object covers, [B, S, S]
 * @param counts  what each object counts, [B, 1]; every one counts 1 by default
 */
export function maskLosses(
  { candidates, ious, objectScores }: MaskPrediction,
  targets: tf.Tensor3D,
  settings: MaskLossSettings,
  counts?: tf.Tensor2D,
): MaskLosses {
  const { B = 1, M = 1, H = 1, W = 1 } = expectShape(candidates, ["B", "M", "H", "W"]);
  expectShape(targets, [B, H, W]);
  const truth = tf.tile(tf.reshape(targets, [B, 1, H, W]), [1, M, 1, 1]) as tf.Tensor4D; // Four axes.
  const { focalAlpha: alpha, focalGamma: gamma } = settings;
  const focal: tf.Tensor2D = tf.div(pixelSum(focalLoss(candidates, truth, { alpha, gamma })), H * W);
  const dice = diceLoss(candidates, truth);
  const iou = iouLoss(candidates, truth, ious, settings);
  const isThere = tf.step(tf.max(tf.reshape(targets, [B, H * W]), 1, true));
  const chosen = chooseMask(focal, dice, settings);
  const counted = (loss: tf.Tensor): tf.Tensor => (counts ? tf.mul(loss, counts) : loss);
  const perObject = (loss: tf.Tensor2D, choice: tf.Tensor) =>
    tf.sum(counted(tf.mul(tf.mul(loss, choice), isThere)));
  const object = settings.scoreObjects
    ? focalLoss(objectScores, isThere as tf.Tensor2D, {
        alpha: settings.objectAlpha,
        gamma: settings.objectGamma,
      }) // [B, 1].
    : tf.zeros([B, 1]);
  const sums = {
    mask: perObject(focal, chosen),
    dice: perObject(dice, chosen),
    iou: perObject(iou, settings.superviseAllIous ? tf.fill([B, M], 1 / M) : chosen),
    object: tf.sum(counted(object)),
  };
  return weighted(sums, B, settings.weights);
}

function weighted(
  sums: Record<keyof MaskLossSettings["weights"], tf.Tensor>,
  objects: number,
  weights: MaskLossSettings["weights"],
): MaskLosses {
  const mean = (sum: tf.Tensor) => tf.div(sum, objects) as tf.Scalar; // Sums are scalars.
  const losses = {
    mask: mean(sums.mask),
    dice: mean(sums.dice),
    iou: mean(sums.iou),
    object: mean(sums.object),
  };
  const terms = [
    tf.mul(losses.mask, weights.mask),
    tf.mul(losses.dice, weights.dice),
    tf.mul(losses.iou, weights.iou),
    tf.mul(losses.object, weights.object),
  ];
  return { ...losses, total: tf.addN(terms) as tf.Scalar }; // A sum of scalars.
}

/** 1 at the mask of each object with the lowest loss, else 0: [B, M]. */
function chooseMask(focal: tf.Tensor2D, dice: tf.Tensor2D, { weights }: MaskLossSettings): tf.Tensor {
  const count = focal.shape[1];
  if (count === 1) return tf.onesLike(focal);
  return withoutGradient({ focal, dice }, (given) => {
    const losses = tf.add(tf.mul(given.focal, weights.mask), tf.mul(given.dice, weights.dice));
    return tf.cast(tf.oneHot(tf.argMin(losses, 1), count), "float32");
  });
}

/** Element by element, of any shape. */
export function focalLoss<Rank extends tf.Rank>(
  logits: tf.Tensor<Rank>,
  truth: tf.Tensor<Rank>,
  { alpha, gamma }: { readonly alpha: number; readonly gamma: number },
): tf.Tensor<Rank> {
  const other = tf.sub(1, truth);
  const error = tf.add(tf.mul(tf.sigmoid(logits), other), tf.mul(tf.sigmoid(tf.neg(logits)), truth));
  const entropy = crossEntropy(logits, truth);
  const focused = gamma === 0 ? entropy : tf.mul(entropy, tf.pow(error, gamma));
  if (alpha < 0) return focused as tf.Tensor<Rank>; // The shape of the logits.
  const balance = tf.add(tf.mul(truth, alpha), tf.mul(other, 1 - alpha));
  return tf.mul(focused, balance) as tf.Tensor<Rank>; // As above.
}

/** Of a sigmoid, from its logits, element by element. */
export function crossEntropy(logits: tf.Tensor, truth: tf.Tensor): tf.Tensor {
  const tail = tf.log1p(tf.exp(tf.neg(tf.abs(logits))));
  return tf.add(tf.sub(relu(logits), tf.mul(logits, truth)), tail);
}

/** [B, M] */
function diceLoss(logits: tf.Tensor4D, truth: tf.Tensor4D): tf.Tensor2D {
  const share = tf.sigmoid(logits);
  const common = tf.mul(pixelSum(tf.mul(share, truth)), 2);
  const total = tf.add(pixelSum(share), pixelSum(truth));
  return tf.sub(1, tf.div(tf.add(common, DICE_SMOOTH), tf.add(total, DICE_SMOOTH)));
}

/** Over rows and then over their sums, so that the rounding error grows with the side and not with the area: [B, M]. */
function pixelSum(images: tf.Tensor): tf.Tensor2D {
  return tf.sum(tf.sum(images, -1), -1);
}

/** [B, M] */
function iouLoss(
  logits: tf.Tensor4D,
  truth: tf.Tensor4D,
  ious: tf.Tensor2D,
  { absoluteIouError }: MaskLossSettings,
): tf.Tensor2D {
  const actual = withoutGradient({ logits }, (given) => {
    const [mask, target] = [tf.step(given.logits), tf.step(tf.sub(truth, HALF))];
    const common = pixelSum(tf.mul(mask, target));
    const union = pixelSum(tf.maximum(mask, target));
    return tf.div(common, tf.maximum(union, 1));
  });
  const error = tf.sub(ious, actual);
  return (absoluteIouError ? tf.abs(error) : tf.square(error)) as tf.Tensor2D; // The shape of the estimates.
}
