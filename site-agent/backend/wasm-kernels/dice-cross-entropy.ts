// nnU-Net's loss and its gradient in two passes over the logits, in double precision. Composed of the framework's
// operations it is some sixty passes. What it computes, and why, is said in training/losses.ts.

import { DICE_CROSS_ENTROPY, type DiceCrossEntropyConstants } from "../fused-kernel.ts";
import { input, type TrainingKernel } from "./kernel-registry.ts";

/** P pixels an image, K classes. Arrays are row-major; `targets` holds class indices. */
type LossInputs = {
  readonly images: number;
  readonly pixels: number;
  readonly classes: number;
  /** [B, P, K] */
  readonly logits: Float32Array;
  /** [B, P] */
  readonly targets: Int32Array;
  /** [B, K]: 1 where the class was drawn in the image, else 0. The background counts as drawn. */
  readonly drawn: Float32Array;
  readonly smooth: number;
};

/** logits [B, H, W, K], targets [B, H, W] int32, drawn [B, K] -> loss [], gradient of the logits [B, H, W, K]. */
export const diceCrossEntropy: TrainingKernel = {
  name: DICE_CROSS_ENTROPY,
  compute({ heap }, inputs, attributes) {
    const logits = input(inputs, "logits");
    const [images = 0, height = 0, width = 0, classes = 0] = logits.shape;
    const [loss, gradient] = [heap.output([]), heap.output(logits.shape)];
    const { smooth } = attributes as unknown as DiceCrossEntropyConstants; // What every caller of this kernel passes.
    const given = {
      ...{ images, pixels: height * width, classes, smooth },
      logits: heap.float32(logits),
      targets: heap.int32(input(inputs, "targets")),
      drawn: heap.float32(input(inputs, "drawn")),
    };
    heap.float32(loss)[0] = computeLoss(given, heap.float32(gradient));
    return [loss, gradient];
  },
};

/** Writes the gradient of the logits and returns the loss. */
function computeLoss(inputs: LossInputs, gradient: Float32Array): number {
  const { crossEntropy, overlaps } = softmaxPass(inputs, gradient);
  const { dice, ifInside, ifOutside } = diceTerms(inputs, overlaps);
  gradientPass(inputs, gradient, ifInside, ifOutside);
  return crossEntropy - dice;
}

type Overlaps = {
  /** Per class: sums over the images that drew it. */
  readonly intersection: Float64Array;
  readonly predicted: Float64Array;
  readonly true: Float64Array;
};

/** Probabilities into `probabilities`; the mean cross-entropy; the sums that Dice needs. */
function softmaxPass(
  inputs: LossInputs,
  probabilities: Float32Array,
): { crossEntropy: number; overlaps: Overlaps } {
  const { images, pixels, classes, logits, targets, drawn } = inputs;
  const overlaps = {
    intersection: new Float64Array(classes),
    predicted: new Float64Array(classes),
    true: new Float64Array(classes),
  };
  const exponentials = new Float64Array(classes);
  let crossEntropy = 0;
  for (let image = 0; image < images; image += 1) {
    const row = drawn.subarray(image * classes, (image + 1) * classes);
    for (let pixel = 0; pixel < pixels; pixel += 1) {
      const index = image * pixels + pixel;
      const start = index * classes;
      const sum = exponentiate(logits, start, exponentials);
      const target = targetClass(targets[index] ?? 0, row);
      crossEntropy -= Math.log(targetShare(exponentials, target, row) / sum);
      for (let k = 0; k < classes; k += 1) {
        const probability = (exponentials[k] ?? 0) / sum;
        probabilities[start + k] = probability;
        if (row[k] !== 1) continue;
        overlaps.predicted[k] = (overlaps.predicted[k] ?? 0) + probability;
        if (k !== target) continue;
        overlaps.intersection[k] = (overlaps.intersection[k] ?? 0) + probability;
        overlaps.true[k] = (overlaps.true[k] ?? 0) + 1;
      }
    }
  }
  return { crossEntropy: crossEntropy / (images * pixels), overlaps };
}

/** exp(logit - largest logit) of one pixel; returns their sum. */
function exponentiate(logits: Float32Array, start: number, exponentials: Float64Array): number {
  let largest = Number.NEGATIVE_INFINITY;
  for (let k = 0; k < exponentials.length; k += 1) largest = Math.max(largest, logits[start + k] ?? 0);
  let sum = 0;
  for (let k = 0; k < exponentials.length; k += 1) {
    const exponential = Math.exp((logits[start + k] ?? 0) - largest);
    exponentials[k] = exponential;
    sum += exponential;
  }
  return sum;
}

/** A class that nobody drew in this image says no more than background does. */
function targetClass(target: number, drawn: Float32Array): number {
  return drawn[target] === 1 ? target : 0;
}

/** What the target class holds, or background together with every class that was not drawn. */
function targetShare(exponentials: Float64Array, target: number, drawn: Float32Array): number {
  let share = exponentials[target] ?? 0;
  if (target !== 0) return share;
  for (let k = 1; k < exponentials.length; k += 1) if (drawn[k] !== 1) share += exponentials[k] ?? 0;
  return share;
}

/** The mean Dice, and the derivative of minus that mean by a probability inside and outside the class. */
function diceTerms({ images, classes, drawn, smooth }: LossInputs, overlaps: Overlaps) {
  const [ifInside, ifOutside] = [new Float64Array(classes), new Float64Array(classes)];
  const scored: number[] = [];
  for (let k = 1; k < classes; k += 1) {
    for (let image = 0; image < images; image += 1) {
      if (drawn[image * classes + k] !== 1) continue;
      scored.push(k);
      break;
    }
  }
  let dice = 0;
  for (const k of scored) {
    const numerator = 2 * (overlaps.intersection[k] ?? 0) + smooth;
    const denominator = (overlaps.predicted[k] ?? 0) + (overlaps.true[k] ?? 0) + smooth;
    dice += numerator / denominator / scored.length;
    ifOutside[k] = numerator / denominator ** 2 / scored.length;
    ifInside[k] = (ifOutside[k] ?? 0) - 2 / denominator / scored.length;
  }
  return { dice, ifInside, ifOutside };
}

/** Probabilities become the gradient of the logits, in place. */
function gradientPass(
  { images, pixels, classes, targets, drawn }: LossInputs,
  gradient: Float32Array,
  ifInside: Float64Array,
  ifOutside: Float64Array,
): void {
  const pixelWeight = 1 / (images * pixels);
  for (let image = 0; image < images; image += 1) {
    const row = drawn.subarray(image * classes, (image + 1) * classes);
    for (let pixel = 0; pixel < pixels; pixel += 1) {
      const index = image * pixels + pixel;
      const start = index * classes;
      const target = targetClass(targets[index] ?? 0, row);
      let share = gradient[start + target] ?? 0;
      let mean = 0;
      for (let k = 1; k < classes; k += 1) {
        const probability = gradient[start + k] ?? 0;
        if (row[k] === 1) mean += probability * ((k === target ? ifInside[k] : ifOutside[k]) ?? 0);
        else if (target === 0) share += probability;
      }
      for (let k = 0; k < classes; k += 1) {
        const probability = gradient[start + k] ?? 0;
        const isTarget = k === target || (target === 0 && row[k] !== 1);
        const slope = row[k] === 1 ? ((k === target ? ifInside[k] : ifOutside[k]) ?? 0) : 0;
        // A share below the smallest float32 is that of one class alone.
        const part = share > 0 ? probability / share : Number(k === target);
        const crossEntropy = isTarget ? probability - part : probability;
        gradient[start + k] = probability * (slope - mean) + crossEntropy * pixelWeight;
      }
    }
  }
}
