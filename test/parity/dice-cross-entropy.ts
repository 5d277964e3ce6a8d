// nnU-Net's loss with every setting that its own configuration can change: soft Dice, of a batch or of each image, with or
// without the background, and cross-entropy. The training's own loss is one point of this space; where a case is that
// point, the training's is what is compared.

import { tf } from "../../site-agent/backend/tensors.ts";

export type DiceCrossEntropySettings = {
  readonly batchDice: boolean;
  readonly smooth: number;
  readonly background: boolean;
  readonly entropyWeight: number;
  readonly diceWeight: number;
};

const DENOMINATOR_MIN = 1e-8;

/**
 * @param logits [B, H, W, K]
 * @param classes [B, H, W] int32
 */
export function diceAndCrossEntropy(
  logits: tf.Tensor4D,
  classes: tf.Tensor3D,
  settings: DiceCrossEntropySettings,
): tf.Scalar {
  const classCount = logits.shape[3];
  const truth = tf.cast(tf.oneHot(classes, classCount), "float32");
  const logProbability = tf.logSoftmax(logits, 3);
  const entropy = tf.neg(tf.mean(tf.sum(tf.mul(logProbability, truth), 3)));
  const dice = meanDice(tf.softmax(logits, 3), truth, settings);
  const terms = [tf.mul(entropy, settings.entropyWeight), tf.mul(dice, -settings.diceWeight)];
  return tf.addN(terms) as tf.Scalar; // A sum of scalars.
}

function meanDice(probability: tf.Tensor, truth: tf.Tensor, settings: DiceCrossEntropySettings): tf.Tensor {
  const axes = settings.batchDice ? [0, 1, 2] : [1, 2];
  const sum = (values: tf.Tensor) => classesOf(tf.sum(values, axes), settings.background);
  const common = sum(tf.mul(probability, truth));
  const total = tf.add(sum(probability), sum(truth));
  const above = tf.add(tf.mul(common, 2), settings.smooth);
  return tf.mean(tf.div(above, tf.maximum(tf.add(total, settings.smooth), DENOMINATOR_MIN)));
}

function classesOf(sums: tf.Tensor, background: boolean): tf.Tensor {
  if (background) return sums;
  const start = sums.shape.map((_, axis) => (axis === sums.shape.length - 1 ? 1 : 0));
  return tf.slice(sums, start);
}
