// SAM 2's memory encoder: the mask of a frame, made small, is added to the frame's image embedding, mixed by ConvNeXt
// blocks (Liu et al. 2022) and narrowed to the channels of a memory.
// B objects, S side of the input, H W the image embedding, C channels, M channels of a memory. Layout is NHWC throughout.

import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { maskDownsamplerChannels } from "@consilium/shared/model/sam2-parameters.ts";
import { tf } from "../../backend/tensors.ts";
import { addBias } from "../nn/bias.ts";
import { biasedConv2d } from "../nn/biased-conv2d.ts";
import { gelu } from "../nn/gelu.ts";
import { layerNorm } from "../nn/layer-norm.ts";
import { linear } from "../nn/linear.ts";
import type { ModelPart } from "../nn/model-part.ts";

const EPSILON = 1e-6;

/**
 * @param embedding [B, H, W, C], or [1, H, W, C] for all objects
 * @param masks [B, S, S, 1], scaled as the record says
 * @param part memory_encoder
 * @returns [B, H, W, M]
 */
export function encodeMemory(
  embedding: tf.Tensor4D,
  masks: tf.Tensor4D,
  { memoryEncoder: config, neck }: Sam2Config,
  part: ModelPart,
): tf.Tensor4D {
  return tf.tidy(() => {
    const small = part.observe(
      downsampleMasks(masks, config, part.under("mask_downsampler")),
      "mask_downsampler",
    );
    const pixels = part.observe(biasedConv2d(embedding, part.conv("pix_feat_proj")), "pix_feat_proj");
    let mixed = tf.add(small, pixels) as tf.Tensor4D; // The shape of the masks.
    for (let layer = 0; layer < config.fuser.layerCount; layer += 1)
      mixed = fuserBlock(mixed, config.fuser, part.under(`fuser.layers.${layer}`));
    return config.channels === neck.channels ? mixed : biasedConv2d(mixed, part.conv("out_proj"));
  });
}

function downsampleMasks(
  masks: tf.Tensor4D,
  config: Sam2Config["memoryEncoder"],
  part: ModelPart,
): tf.Tensor4D {
  const steps = maskDownsamplerChannels(config).length - 1;
  const { stride, padding } = config.maskDownsampler;
  let small = masks;
  for (let step = 0; step < steps; step += 1) {
    const image = biasedConv2d(small, part.conv(`encoder.${3 * step}`), { stride, padding });
    small = gelu(layerNorm(image, part.norm(`encoder.${3 * step + 1}`), EPSILON));
  }
  return biasedConv2d(small, part.conv(`encoder.${3 * steps}`));
}

/** A ConvNeXt block. */
export function fuserBlock(
  x: tf.Tensor4D,
  { kernelSize, depthwise, layerScale }: Sam2Config["memoryEncoder"]["fuser"],
  part: ModelPart,
): tf.Tensor4D {
  const { weight, bias } = part.conv("dwconv");
  const local = depthwise
    ? addBias(tf.depthwiseConv2d(x, weight, 1, "same"), bias)
    : biasedConv2d(x, { weight, bias }, { padding: (kernelSize - 1) / 2 });
  const wide = gelu(linear(layerNorm(local, part.norm("norm"), EPSILON), part.linear("pwconv1")));
  const mixed = linear(wide, part.linear("pwconv2"));
  const scaled = layerScale ? tf.mul(mixed, part.tensor("gamma")) : mixed;
  return part.observe(tf.add(x, scaled) as tf.Tensor4D); // The shape of x.
}
