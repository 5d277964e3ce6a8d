// The memories of several objects that remember different frames, one frame each at a time, as one batch of token
// sequences. All objects remember equally many frames and pointers; which ones, and how long ago, is each object's own.
// B objects, F frames and P pointers of each, H W the image embedding, C channels, M channels of a memory.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { tf } from "../../backend/tensors.ts";
import type { ModelPart } from "../nn/model-part.ts";
import { sineImagePositions } from "../nn/sine-positions.ts";
import type { MemoryTokens } from "./memory-attention.ts";
import { type FrameMemory, pointerTimes } from "./memory-bank.ts";

/** What one object remembers; every memory is of one object: [1, H, W, M] and [1, C]. */
export type RememberedFrames = {
  /** Slot 0 belongs to conditioning frames, slot 1 to the oldest of the others. */
  readonly memories: readonly { readonly memory: FrameMemory; readonly slot: number }[];
  /** Distance in time as a share of the longest one. */
  readonly pointers: readonly { readonly memory: FrameMemory; readonly distance: number }[];
};

/** @param model the part without a name */
export function memoryTokensOfEach(
  each: readonly RememberedFrames[],
  config: Sam2Config,
  model: ModelPart,
): MemoryTokens {
  const first = expectDefined(each[0], "an object");
  const [frameCount, pointerCount] = [first.memories.length, first.pointers.length];
  const isEqual = ({ memories, pointers }: RememberedFrames): boolean =>
    memories.length === frameCount && pointers.length === pointerCount;
  assert(frameCount > 0 && each.every(isEqual), "objects of a batch remember equally much");
  const frames = frameTokens(each, config, model);
  if (pointerCount === 0) return { ...frames, pointerTokenCount: 0 };
  const pointers = pointerTokens(each, config, model);
  return {
    tokens: tf.concat([frames.tokens, pointers.tokens], 1),
    positions: tf.concat([frames.positions, pointers.positions], 1),
    pointerTokenCount: pointers.tokens.shape[1],
  };
}

type Tokens = Pick<MemoryTokens, "tokens" | "positions">;

/** [B, F * H * W, M] */
function frameTokens(
  each: readonly RememberedFrames[],
  { memoryEncoder, tracking }: Sam2Config,
  model: ModelPart,
): Tokens {
  const all = each.flatMap(({ memories }) => memories);
  const features = tf.concat(
    all.map(({ memory }) => memory.features),
    0,
  );
  const [count, height, width, channels] = features.shape;
  const places = height * width;
  const { positionTemperature: temperature } = memoryEncoder;
  const space = tf.tensor3d(sineImagePositions({ height, width, channels, temperature }), [
    1,
    places,
    channels,
  ]);
  const table: tf.Tensor2D = tf.reshape(model.tensor("maskmem_tpos_enc"), [
    tracking.memoryFrameCount,
    channels,
  ]);
  const rows = all.map(({ slot }) => tracking.memoryFrameCount - slot - 1);
  const times = tf.reshape(tf.gather(table, tf.tensor1d(rows, "int32")), [count, 1, channels]);
  const shape: [number, number, number] = [each.length, (count / each.length) * places, channels];
  return { tokens: tf.reshape(features, shape), positions: tf.reshape(tf.add(space, times), shape) };
}

/** A pointer is as many tokens as its channels hold channels of a memory: [B, P * pieces, M]. */
function pointerTokens(each: readonly RememberedFrames[], config: Sam2Config, model: ModelPart): Tokens {
  const all = each.flatMap(({ pointers }) => pointers);
  const stacked = tf.concat(
    all.map(({ memory }) => memory.pointer),
    0,
  );
  const [count, channels] = stacked.shape;
  const width = config.memoryEncoder.channels;
  const pieces = channels / width;
  const distances = all.map(({ distance }) => distance);
  const times = tf.reshape(pointerTimes(distances, config, model), [count, 1, width]);
  const shape: [number, number, number] = [each.length, (count / each.length) * pieces, width];
  return {
    tokens: tf.reshape(stacked, shape),
    positions: tf.reshape(tf.broadcastTo(times, [count, pieces, width]), shape),
  };
}
