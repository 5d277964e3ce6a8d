// One block of Hiera (Ryali et al. 2023) as SAM 2 has it: attention within windows or over the whole image, whose queries
// a stage change pools, and a perceptron.
// B batch, H W spatial, C channels, V windows, S their side. Layout is NHWC throughout.

import type { HieraBlockSpec } from "@consilium/shared/model/sam2-trunk.ts";
import { tf } from "../../backend/tensors.ts";
import { dotProductAttention, mergeHeads, splitHeads } from "../nn/attention.ts";
import { addBias } from "../nn/bias.ts";
import { gelu } from "../nn/gelu.ts";
import { layerNorm } from "../nn/layer-norm.ts";
import { linear, product } from "../nn/linear.ts";
import { maxPoolByTwo } from "../nn/max-pool-by-two.ts";
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
    const attended = attention(normalised, spec, part.under("attn"));
    const sum = tf.add(shortcut, part.adapt("attn", attended)) as tf.Tensor4D; // Equal shapes.
    const wide = gelu(linear(layerNorm(sum, part.norm("norm2"), EPSILON), part.linear("mlp.layers.0")));
    return part.observe(tf.add(sum, linear(wide, part.linear("mlp.layers.1"))) as tf.Tensor4D); // As above.
  });
}

function projected(normalised: tf.Tensor4D, { pools }: HieraBlockSpec, part: ModelPart): tf.Tensor4D {
  const image = linear(normalised, part.linear("proj"));
  return pools ? maxPoolByTwo(image) : image;
}

/** [B, H, W, inChannels] -> [B, H, W, outChannels], half as high and wide where the block pools */
function attention(image: tf.Tensor4D, spec: HieraBlockSpec, part: ModelPart): tf.Tensor4D {
  const { outChannels, headCount, pools, window } = spec;
  const [query, key, value] = tf.split(queriesKeysValues(image, window, part), 3, 3) as [
    tf.Tensor4D,
    tf.Tensor4D,
    tf.Tensor4D,
  ]; // Three, as asked for.
  const asking = pools ? maxPoolByTwo(query) : query;
  const [count, height, width] = asking.shape;
  const heads = (windows: tf.Tensor4D) => splitHeads(sequence(windows), headCount);
  const attended = dotProductAttention({ query: heads(asking), key: heads(key), value: heads(value) });
  const merged: tf.Tensor4D = tf.reshape(mergeHeads(attended, headCount), [
    count,
    height,
    width,
    outChannels,
  ]);
  const [batch, rows, columns] = image.shape;
  const shrink = pools ? POOL_SIDE : 1;
  const size = [rows, columns].map((side) => Math.floor(side / shrink)) as [number, number]; // Two.
  return linear(window === 0 ? merged : joinWindows(merged, batch, size), part.linear("proj"));
}

/**
 * Windows of queries, keys and values, [V, S, S, 3 * outChannels]. What a window lacks of the image has a bias and nothing
 * else: a product of what is there, filled up and then given its bias, is the same as a layer of the whole window, at 256
 * pixels with a third of the work.
 */
function queriesKeysValues(image: tf.Tensor4D, window: number, part: ModelPart): tf.Tensor4D {
  const layer = part.linear("qkv");
  if (window === 0) return linear(image, layer);
  const [, height, width] = image.shape;
  if (height % window === 0 && width % window === 0) return linear(partitionWindows(image, window), layer);
  return addBias(partitionWindows(product(image, layer.weight), window), layer.bias);
}

/** [V, H, W, C] -> [V, H * W, C] */
function sequence(image: tf.Tensor4D): tf.Tensor3D {
  const [count, height, width, channels] = image.shape;
  return tf.reshape(image, [count, height * width, channels]);
}
