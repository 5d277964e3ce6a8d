// One block of Hiera (Ryali et al. 2023) as SAM 2 has it: attention within windows or over the whole image, whose queries
// a stage change pools, and a perceptron.
// B batch, H W spatial, C channels, V windows, S their side. Layout is NHWC throughout.

import type { HieraBlockSpec } from "@consilium/shared/model/sam2-trunk.ts";
import { tf } from "../../backend/tensors.ts";
import { dotProductAttention, mergeHeads, splitHeads } from "../nn/attention.ts";
import { gelu } from "../nn/gelu.ts";
import { layerNorm } from "../nn/layer-norm.ts";
import { linear } from "../nn/linear.ts";
import type { ModelPart } from "../nn/model-part.ts";
import { joinWindows, partitionWindows } from "../nn/windows.ts";

const EPSILON = 1e-6;
const POOL_SIDE = 2;

/**
 * Tidied by itself: a trunk keeps what gradients need of each block and nothing else.
 * @param image [B, H, W, inChannels] float32
 * @returns [B, H, W, outChannels], half as high and wide where the block pools
 */
export function hieraBlock(image: tf.Tensor4D, spec: HieraBlockSpec, part: ModelPart): tf.Tensor4D {
  return part.block({ image }, (inputs) => {
    const x = inputs["image"] as tf.Tensor4D; // Given above.
    const normalised = layerNorm(x, part.norm("norm1"), EPSILON);
    const shortcut = spec.inChannels === spec.outChannels ? x : projected(normalised, spec, part);
    const windows = spec.window === 0 ? normalised : partitionWindows(normalised, spec.window);
    const attended = attention(windows, spec, part.under("attn"));
    const [batch, height, width] = shortcut.shape;
    const joined = spec.window === 0 ? attended : joinWindows(attended, batch, [height, width]);
    const sum = tf.add(shortcut, part.adapt("attn", joined)) as tf.Tensor4D; // Equal shapes.
    const wide = gelu(linear(layerNorm(sum, part.norm("norm2"), EPSILON), part.linear("mlp.layers.0")));
    return part.observe(tf.add(sum, linear(wide, part.linear("mlp.layers.1"))) as tf.Tensor4D); // As above.
  });
}

function projected(normalised: tf.Tensor4D, { pools }: HieraBlockSpec, part: ModelPart): tf.Tensor4D {
  const image = linear(normalised, part.linear("proj"));
  return pools ? pooled(image) : image;
}

function pooled(image: tf.Tensor4D): tf.Tensor4D {
  return tf.maxPool(image, POOL_SIDE, POOL_SIDE, "valid");
}

/** [V, S, S, inChannels] -> [V, S, S, outChannels], half the side where the block pools */
function attention(
  windows: tf.Tensor4D,
  { outChannels, headCount, pools }: HieraBlockSpec,
  part: ModelPart,
): tf.Tensor4D {
  const [query, key, value] = tf.split(linear(windows, part.linear("qkv")), 3, 3) as [
    tf.Tensor4D,
    tf.Tensor4D,
    tf.Tensor4D,
  ]; // Three, as asked for.
  const asking = pools ? pooled(query) : query;
  const [count, height, width] = asking.shape;
  const heads = (image: tf.Tensor4D) => splitHeads(sequence(image), headCount);
  const attended = dotProductAttention({ query: heads(asking), key: heads(key), value: heads(value) });
  const merged = linear(mergeHeads(attended, headCount), part.linear("proj"));
  return tf.reshape(merged, [count, height, width, outChannels]);
}

/** [V, H, W, C] -> [V, H * W, C] */
function sequence(image: tf.Tensor4D): tf.Tensor3D {
  const [count, height, width, channels] = image.shape;
  return tf.reshape(image, [count, height * width, channels]);
}
