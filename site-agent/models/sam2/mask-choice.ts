// Which of the decoder's masks count: the single one, the several others, or, where the single one is unstable, the best
// of the others. Choices are made without a gradient; through what is chosen it flows.
// B objects, M masks of the decoder, C channels.

import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { tf } from "../../backend/tensors.ts";
import { withoutGradient } from "../nn/without-gradient.ts";
import type { DecodedMasks } from "./mask-decoder.ts";

export type ChosenMasks = Pick<DecodedMasks, "masks" | "ious" | "tokens">;
export type StabilityRule = NonNullable<Sam2Config["maskDecoder"]["dynamicMultimask"]>;

/** All masks but the single one, each with its own token or with the single one's. */
export function severalMasks(
  decoded: DecodedMasks,
  { multimaskTokenForPointer }: Sam2Config["maskDecoder"],
): ChosenMasks {
  const several = sliceMasks(decoded, 1, (decoded.masks.shape[1] ?? 1) - 1);
  return multimaskTokenForPointer ? several : { ...several, tokens: sliceMasks(decoded, 0, 1).tokens };
}

/** The single mask, or another in its place where a rule is given; the token is the single one's in any case. */
export function singleMask(decoded: DecodedMasks, rule: StabilityRule | null): ChosenMasks {
  const single = sliceMasks(decoded, 0, 1);
  if (!rule) return single;
  const best = bestMask(sliceMasks(decoded, 1, decoded.masks.shape[1] - 1));
  const stable = withoutGradient(
    { masks: single.masks },
    ({ masks }) =>
      tf.cast(
        tf.greaterEqual(stabilityScores(masks as tf.Tensor4D, rule.stabilityDelta), rule.stabilityMin),
        "float32",
      ), // As given.
  );
  const choose = <T extends tf.Tensor>(a: T, b: T, shape: number[]): T => {
    const weight = tf.reshape(stable, shape);
    return tf.add(tf.mul(a, weight), tf.mul(b, tf.sub(1, weight))) as T; // The shape of both.
  };
  const batch = single.masks.shape[0];
  return {
    masks: choose(single.masks, best.masks, [batch, 1, 1, 1]),
    ious: choose(single.ious, best.ious, [batch, 1]),
    tokens: single.tokens,
  };
}

/** The mask with the highest estimate, as the only one: masks [B, 1, H, W]. */
export function bestMask({ masks, ious, tokens }: ChosenMasks): ChosenMasks {
  const [batch, count] = ious.shape;
  if (count === 1) return { masks, ious, tokens };
  const chosen = withoutGradient({ ious }, (given) => tf.oneHot(tf.argMax(given.ious, 1), count));
  const pick = (values: tf.Tensor) => {
    const weight = tf.reshape(tf.cast(chosen, "float32"), [
      batch,
      count,
      ...values.shape.slice(2).map(() => 1),
    ]);
    return tf.sum(tf.mul(values, weight), 1, true);
  };
  return {
    masks: pick(masks) as tf.Tensor4D, // The same number of axes.
    ious: pick(ious) as tf.Tensor2D, // As above.
    tokens: tokens.shape[1] === count ? (pick(tokens) as tf.Tensor3D) : tokens, // As above.
  };
}

/**
 * Pixels above `delta` as a share of those above -`delta`: 1 for a mask without any. Not differentiable.
 * @param masks logits [B, M, H, W]
 * @returns [B, M]
 */
export function stabilityScores(masks: tf.Tensor4D, delta: number): tf.Tensor2D {
  return tf.tidy(() => {
    const area = (threshold: number) => tf.sum(tf.cast(tf.greater(masks, threshold), "float32"), [2, 3]);
    const [inner, outer] = [area(delta), area(-delta)];
    const share = tf.div(inner, tf.maximum(outer, 1));
    return tf.where(tf.greater(outer, 0), share, tf.onesLike(share)) as tf.Tensor2D; // Two axes are left.
  });
}

function sliceMasks({ masks, ious, tokens }: ChosenMasks, start: number, count: number): ChosenMasks {
  const [batch, , height, width] = masks.shape;
  return {
    masks: tf.slice(masks, [0, start, 0, 0], [batch, count, height, width]),
    ious: tf.slice(ious, [0, start], [batch, count]),
    tokens: tf.slice(tokens, [0, start, 0], [batch, count, tokens.shape[2]]),
  };
}
