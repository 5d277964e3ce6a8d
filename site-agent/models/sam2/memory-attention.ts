// SAM 2's memory attention: the image embedding of a frame attends to itself and to the memories of other frames. Axial
// rotary positions turn queries and keys of places; object pointers, which stand last in the memory, have no place and
// are not turned.
// B objects, H W the image embedding, C channels, L tokens of memory, M their channels.

import { assert, expectDefined } from "@consilium/shared/base/assert.ts";
import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { inBranches } from "../../backend/graph/in-branches.ts";
import { expectShape } from "../../backend/shape.ts";
import { tf } from "../../backend/tensors.ts";
import { gelu } from "../nn/gelu.ts";
import { layerNorm } from "../nn/layer-norm.ts";
import { linear } from "../nn/linear.ts";
import type { ModelPart } from "../nn/model-part.ts";
import { projectedAttention, type Turn } from "../nn/projected-attention.ts";
import { relu } from "../nn/relu.ts";
import { rotaryTable, rotate } from "../nn/rotary-positions.ts";

const EPSILON = 1e-5;
const INPUT_POSITION_FACTOR = 0.1;

export type MemoryTokens = {
  /** [B, L, M] */
  readonly tokens: tf.Tensor3D;
  /** [B, L, M] */
  readonly positions: tf.Tensor3D;
  /** What is added to the attention that a token gets, where some are to get none, [B, 1, L]. */
  readonly hidden?: tf.Tensor3D;
  /** Of the L, those at the end that are pointers. */
  readonly pointerTokenCount: number;
};

export type Attending = {
  /** [B, H, W, C] */
  readonly embedding: tf.Tensor4D;
  /** [1, H * W, C] */
  readonly positions: tf.Tensor3D;
  readonly memory: MemoryTokens;
};

type RotaryConfig = Sam2Config["memoryAttention"]["selfAttention"];

/**
 * @param part memory_attention
 * @returns the embedding with what was remembered, [B, H, W, C]
 */
export function attendToMemory(
  { embedding, positions, memory }: Attending,
  { memoryAttention: config }: Sam2Config,
  part: ModelPart,
): tf.Tensor4D {
  const { B = 1, H = 1, W = 1, C = 1 } = expectShape(embedding, ["B", "H", "W", "C"]);
  return tf.tidy(() => {
    const sequence: tf.Tensor3D = tf.reshape(embedding, [B, H * W, C]);
    let image = config.positionAtInput
      ? tf.add<tf.Tensor3D>(sequence, tf.mul(positions, INPUT_POSITION_FACTOR))
      : sequence;
    for (let layer = 0; layer < config.layerCount; layer += 1) {
      const given = { image, tokens: memory.tokens, positions: memory.positions };
      const own = part.under(`layers.${layer}`);
      image = own.block(given, (inputs) => {
        const { image: x, ...remembered } = inputs as typeof given; // As given.
        const attending = {
          image: x,
          positions,
          memory: { ...memory, ...remembered },
          size: [H, W] as const,
        };
        return memoryLayer(attending, config, own);
      });
    }
    const result = part.observe(layerNorm(image, part.norm("norm"), EPSILON), "norm");
    return tf.reshape(result, [B, H, W, C]);
  });
}

type LayerInputs = Pick<Attending, "positions" | "memory"> & {
  /** [B, H * W, C] */
  readonly image: tf.Tensor3D;
  readonly size: readonly [height: number, width: number];
};

function memoryLayer(
  { image, positions, memory, size }: LayerInputs,
  config: Sam2Config["memoryAttention"],
  part: ModelPart,
): tf.Tensor3D {
  const [batch, places, channels] = image.shape;
  const adapted = (name: string, value: tf.Tensor3D): tf.Tensor3D =>
    tf.reshape(part.adapt(name, tf.reshape(value, [batch, ...size, channels])), image.shape);
  const placed = (value: tf.Tensor3D, adds: boolean) =>
    adds ? tf.add<tf.Tensor3D>(value, positions) : value;
  const own = layerNorm(image, part.norm("norm1"), EPSILON);
  const asked = placed(own, config.positionAtSelfAttention);
  const toSelf = selfAttention(asked, own, config.selfAttention, part.under("self_attn"));
  const first = tf.add(image, adapted("self_attn", toSelf));
  const query = placed(
    layerNorm(first as tf.Tensor3D, part.norm("norm2"), EPSILON),
    config.positionAtQueries,
  ); // As image.
  const key = config.positionAtKeys ? tf.add<tf.Tensor3D>(memory.tokens, memory.positions) : memory.tokens;
  const turns = crossTurns(places, channels, memory, config.crossAttention);
  const { tokens: value, hidden } = memory;
  const sequences = { query, key, value, ...(hidden && { hidden }) };
  const toMemory = projectedAttention(sequences, part.under("cross_attn_image"), turns);
  const second = tf.add<tf.Tensor3D>(first, adapted("cross_attn_image", toMemory));
  const narrow = perceptron(layerNorm(second, part.norm("norm3"), EPSILON), config, part);
  return part.observe(tf.add<tf.Tensor3D>(second, narrow));
}

/** Of every place by itself: those of a single object are parted as the objects of a batch are. */
function perceptron(
  x: tf.Tensor3D,
  { activation }: Sam2Config["memoryAttention"],
  part: ModelPart,
): tf.Tensor3D {
  const [batch, places, channels] = x.shape;
  const rows = tf.reshape(x, [batch * places, channels]);
  const compute = ({ rows: some }: tf.NamedTensorMap) => {
    const wide = linear(some as tf.Tensor2D, part.linear("linear1")); // As many axes as all rows.
    return { narrow: linear(activation === "relu" ? relu(wide) : gelu(wide), part.linear("linear2")) };
  };
  const found = batch === 1 ? inBranches({ rows }, places, compute) : compute({ rows });
  return tf.reshape(expectDefined(found["narrow"], "rows"), x.shape);
}

function selfAttention(
  asked: tf.Tensor3D,
  value: tf.Tensor3D,
  config: RotaryConfig,
  part: ModelPart,
): tf.Tensor3D {
  const [, places, channels] = asked.shape;
  const table = rotaryTable(grid(places, channels, config));
  const turn: Turn = (heads) => rotate(heads, table);
  const options = { headCount: config.headCount, turnQueries: turn, turnKeys: turn };
  return projectedAttention({ query: asked, key: asked, value }, part, options);
}

/** Keys are turned by the angles of their place in their own frame; pointers are left as they are. */
function crossTurns(
  places: number,
  channels: number,
  { tokens, pointerTokenCount }: MemoryTokens,
  config: RotaryConfig,
) {
  const turned = tokens.shape[1] - pointerTokenCount;
  assert(turned % places === 0, "a memory holds whole frames and pointers");
  const table = rotaryTable(grid(places, channels, config));
  const turnQueries: Turn = (heads) => rotate(heads, table);
  const turnKeys: Turn = (heads) => {
    if (pointerTokenCount === 0) return rotate(heads, table);
    const [frames, pointers] = tf.split(heads, [turned, pointerTokenCount], 1) as [tf.Tensor3D, tf.Tensor3D]; // Two sizes.
    return tf.concat([rotate(frames, table), pointers], 1);
  };
  return { headCount: config.headCount, turnQueries, turnKeys };
}

function grid(
  places: number,
  channels: number,
  { gridSize, downsampleRate, headCount, theta }: RotaryConfig,
) {
  const [columns, rows] = gridSize;
  const square = Math.sqrt(places);
  const fits = columns * rows === places;
  assert(fits || Number.isInteger(square), "rotary positions need their own grid or a square one");
  return {
    ...(fits ? { columns, rows } : { columns: square, rows: square }),
    channels: channels / downsampleRate / headCount,
    theta,
  };
}
