// The memories of frames, and how those that were selected become one sequence of tokens with positions in space and
// time. It owns no tensor: whoever puts a memory in keeps it alive.
// B objects, H W the image embedding, C channels, M channels of a memory, L tokens.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { tf } from "../../backend/tensors.ts";
import { linear } from "../nn/linear.ts";
import type { ModelPart } from "../nn/model-part.ts";
import { sineImagePositions, sineTimePositions } from "../nn/sine-positions.ts";
import type { MemoryTokens } from "./memory-attention.ts";
import type { MemorySelection } from "./memory-selection.ts";

export type FrameMemory = {
  /** [B, H, W, M] */
  readonly features: tf.Tensor4D;
  /** [B, C] */
  readonly pointer: tf.Tensor2D;
};

export type MemoryBank = {
  /** Frames with a prompt, and all others, by frame number. */
  readonly conditioning: ReadonlyMap<number, FrameMemory>;
  readonly tracked: ReadonlyMap<number, FrameMemory>;
};

/** @param model the part without a name */
export function memoryTokens(
  bank: MemoryBank,
  selection: MemorySelection,
  config: Sam2Config,
  model: ModelPart,
): MemoryTokens {
  const at = (frame: number) => {
    const memory = bank.conditioning.get(frame) ?? bank.tracked.get(frame);
    return expectDefined(memory, `memory of frame ${frame}`);
  };
  const frames = selection.memories.map(({ frame, slot }) => frameTokens(at(frame), slot, config, model));
  const pointed = selection.pointers.map(({ frame }) => at(frame).pointer);
  const distances = selection.pointers.map(({ distance }) => distance);
  const pointers = pointed.length > 0 ? [pointerTokens(pointed, distances, config, model)] : [];
  const parts = [...frames, ...pointers];
  return {
    tokens: tf.concat(
      parts.map(({ tokens }) => tokens),
      1,
    ),
    positions: tf.concat(
      parts.map(({ positions }) => positions),
      1,
    ),
    pointerTokenCount: pointers[0]?.tokens.shape[1] ?? 0,
  };
}

type Tokens = Pick<MemoryTokens, "tokens" | "positions">;

function frameTokens(
  { features }: FrameMemory,
  slot: number,
  { memoryEncoder, tracking }: Sam2Config,
  model: ModelPart,
): Tokens {
  const [batch, height, width, channels] = features.shape;
  const shape: [number, number, number] = [batch, height * width, channels];
  const { positionTemperature: temperature } = memoryEncoder;
  const space = sineImagePositions({ height, width, channels, temperature });
  const table = tf.reshape(model.tensor("maskmem_tpos_enc"), [tracking.memoryFrameCount, channels]);
  const time = tf.slice(table, [tracking.memoryFrameCount - slot - 1, 0], [1, channels]);
  const positions = tf.add(
    tf.tensor3d(space, [1, height * width, channels]),
    tf.reshape(time, [1, 1, channels]),
  );
  return { tokens: tf.reshape(features, shape), positions: tf.broadcastTo(positions, shape) };
}

/** A pointer is as many tokens as its channels hold channels of a memory; they share one position in time. */
function pointerTokens(
  pointers: readonly tf.Tensor2D[],
  distances: readonly number[],
  config: Sam2Config,
  model: ModelPart,
): Tokens {
  const stacked = tf.stack([...pointers], 1);
  const [batch = 1, count = 1, channels = 1] = stacked.shape;
  const width = config.memoryEncoder.channels;
  const pieces = channels / width;
  const shape: [number, number, number] = [batch, count * pieces, width];
  const time = tf.reshape(pointerTimes(encodedDistances(distances, config), config, model), [
    1,
    count,
    1,
    width,
  ]);
  const repeated = tf.broadcastTo(time, [batch, count, pieces, width]);
  return { tokens: tf.reshape(stacked, shape), positions: tf.reshape(repeated, shape) };
}

/** How long ago each pointer was made, as sines; zeros where a model does not look at that. */
export function encodedDistances(
  distances: readonly number[],
  { memoryEncoder, neck, tracking }: Sam2Config,
): tf.Tensor2D {
  const kind = tracking.pointers?.timeEncoding ?? "none";
  const channels = kind === "projected" ? neck.channels : memoryEncoder.channels;
  if (kind === "none") return tf.zeros([distances.length, channels]);
  return tf.tensor2d(sineTimePositions(distances, channels), [distances.length, channels]);
}

/** @returns [pointers, M] */
export function pointerTimes(encoded: tf.Tensor2D, { tracking }: Sam2Config, model: ModelPart): tf.Tensor2D {
  const isProjected = tracking.pointers?.timeEncoding === "projected";
  return isProjected ? linear(encoded, model.linear("obj_ptr_tpos_proj")) : encoded;
}
