// The memories of several objects that remember different frames, one frame each at a time, as one batch of token
// sequences. Which frames, and how long ago, is each object's own. Where some objects remember fewer, theirs are filled up
// and what was filled up is hidden from attention.
// B objects, F frames and P pointers of each, H W the image embedding, C channels, M channels of a memory.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { tf } from "../../backend/tensors.ts";
import type { ModelPart } from "../nn/model-part.ts";
import { sineImagePositions } from "../nn/sine-positions.ts";
import type { MemoryTokens } from "./memory-attention.ts";
import { encodedDistances, type FrameMemory, pointerTimes } from "./memory-bank.ts";

/** What one object remembers; every memory is of one object: [1, H, W, M] and [1, C]. */
export type RememberedFrames = {
  /** Slot 0 belongs to conditioning frames, slot 1 to the oldest of the others. */
  readonly memories: readonly { readonly memory: FrameMemory; readonly slot: number }[];
  /** Distance in time as a share of the longest one. */
  readonly pointers: readonly { readonly memory: FrameMemory; readonly distance: number }[];
};

export type RememberedTensors = {
  /** [B * F, H, W, M] */
  readonly features: tf.Tensor4D;
  /** A one at the row of each memory in the table of times, [B * F, rows]. */
  readonly times: tf.Tensor2D;
  readonly pointers?: {
    /** [B * P, C] */
    readonly tokens: tf.Tensor2D;
    /** [B * P, C or M] */
    readonly distances: tf.Tensor2D;
  };
  /** What is added to the attention that a token gets, none or very much less, [B, 1, tokens]. */
  readonly hidden?: tf.Tensor3D;
};

/** Attention that this is added to gives nothing. */
const HIDDEN = -1e9;

/** @param filledUp frames, and pointers if there are any, that every object is to have */
export function rememberedTensors(
  each: readonly RememberedFrames[],
  config: Sam2Config,
  filledUp?: number,
): RememberedTensors {
  const first = expectDefined(each[0]?.memories[0], "a memory").memory;
  const pointerCount = each[0]?.pointers.length ?? 0;
  const frames = filledUp ?? each[0]?.memories.length ?? 0;
  const pointers = pointerCount === 0 ? 0 : (filledUp ?? pointerCount);
  const isWithin = (one: RememberedFrames): boolean =>
    filledUp === undefined
      ? one.memories.length === frames && one.pointers.length === pointers
      : one.memories.length <= frames && one.pointers.length <= pointers;
  assert(each.every(isWithin), "objects of a batch remember equally much, or are filled up");
  const { memoryFrameCount } = config.tracking;
  const nothing = tf.zerosLike(first.features);
  const all = each.flatMap(({ memories }) => filled(memories, frames));
  const times = new Float32Array(all.length * memoryFrameCount);
  all.forEach((one, index) => {
    if (one) times[(index + 1) * memoryFrameCount - one.slot - 1] = 1;
  });
  const features = tf.concat(
    all.map((one) => one?.memory.features ?? nothing),
    0,
  );
  return {
    ...{ features, times: tf.tensor2d(times, [all.length, memoryFrameCount]) },
    ...(pointers > 0 && { pointers: pointerTensors(each, pointers, config) }),
    ...(filledUp !== undefined && { hidden: hiddenTokens(each, { frames, pointers }, config) }),
  };
}

function pointerTensors(each: readonly RememberedFrames[], count: number, config: Sam2Config) {
  const nothing = tf.zeros([1, config.neck.channels]);
  const all = each.flatMap(({ pointers }) => filled(pointers, count));
  const tokens = tf.concat(
    all.map((one) => one?.memory.pointer ?? nothing),
    0,
  );
  const distances = encodedDistances(
    all.map((one) => one?.distance ?? 0),
    config,
  );
  return { tokens: tokens as tf.Tensor2D, distances }; // Rows of channels.
}

/** In the order of the tokens: those of frames, then those of pointers. */
function hiddenTokens(
  each: readonly RememberedFrames[],
  count: { readonly frames: number; readonly pointers: number },
  config: Sam2Config,
): tf.Tensor3D {
  const places =
    expectDefined(each[0]?.memories[0], "a memory").memory.features.size / config.memoryEncoder.channels;
  const pieces = config.neck.channels / config.memoryEncoder.channels;
  const length = count.frames * places + count.pointers * pieces;
  const values = new Float32Array(each.length * length);
  each.forEach(({ memories, pointers }, index) => {
    const start = index * length;
    const pointerStart = start + count.frames * places;
    values.fill(HIDDEN, start + memories.length * places, pointerStart);
    values.fill(HIDDEN, pointerStart + pointers.length * pieces, start + length);
  });
  return tf.tensor3d(values, [each.length, 1, length]);
}

function filled<Item>(items: readonly Item[], count: number): (Item | null)[] {
  return Array.from({ length: count }, (_, index) => items[index] ?? null);
}

/** @param model the part without a name */
export function memoryTokensOfEach(
  remembered: RememberedTensors,
  objectCount: number,
  config: Sam2Config,
  model: ModelPart,
): MemoryTokens {
  const frames = frameTokens(remembered, objectCount, config, model);
  const hidden = remembered.hidden && { hidden: remembered.hidden };
  if (!remembered.pointers) return { ...frames, ...hidden, pointerTokenCount: 0 };
  const pointers = pointerTokens(remembered.pointers, objectCount, config, model);
  return {
    tokens: tf.concat([frames.tokens, pointers.tokens], 1),
    positions: tf.concat([frames.positions, pointers.positions], 1),
    ...hidden,
    pointerTokenCount: pointers.tokens.shape[1],
  };
}

type Tokens = Pick<MemoryTokens, "tokens" | "positions">;

/** [B, F * H * W, M] */
function frameTokens(
  { features, times }: RememberedTensors,
  objectCount: number,
  { memoryEncoder, tracking }: Sam2Config,
  model: ModelPart,
): Tokens {
  const [count, height, width, channels] = features.shape;
  const places = height * width;
  const { positionTemperature: temperature } = memoryEncoder;
  const sines = sineImagePositions({ height, width, channels, temperature });
  const space = tf.tensor3d(sines, [1, places, channels]);
  const table: tf.Tensor2D = tf.reshape(model.tensor("maskmem_tpos_enc"), [
    tracking.memoryFrameCount,
    channels,
  ]);
  const time = tf.reshape(tf.matMul(times, table), [count, 1, channels]);
  const shape: [number, number, number] = [objectCount, (count / objectCount) * places, channels];
  return { tokens: tf.reshape(features, shape), positions: tf.reshape(tf.add(space, time), shape) };
}

/** A pointer is as many tokens as its channels hold channels of a memory: [B, P * pieces, M]. */
function pointerTokens(
  { tokens, distances }: NonNullable<RememberedTensors["pointers"]>,
  objectCount: number,
  config: Sam2Config,
  model: ModelPart,
): Tokens {
  const [count, channels] = tokens.shape;
  const width = config.memoryEncoder.channels;
  const pieces = channels / width;
  const times = tf.reshape(pointerTimes(distances, config, model), [count, 1, width]);
  const shape: [number, number, number] = [objectCount, (count / objectCount) * pieces, width];
  return {
    tokens: tf.reshape(tokens, shape),
    positions: tf.reshape(tf.broadcastTo(times, [count, pieces, width]), shape),
  };
}
