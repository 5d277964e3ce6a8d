// The tensors of a SAM 2.1 model under the names of the official checkpoints, in PyTorch's shapes and in the order of
// the official state dict. It holds no number of theirs.

import type { ParameterSpec } from "./parameter-manifest.ts";
import type { Sam2Config } from "./sam2.ts";
import { hieraBlocks, stageChannels } from "./sam2-trunk.ts";

/** Every tensor of the state dict; one of them, the matrix of the point encoding, is a buffer and never trained. */
export function sam2Parameters(config: Sam2Config): ParameterSpec[] {
  return [
    ...embeddings(config),
    ...imageEncoder(config),
    ...(config.tracking.pointers ? conv("mask_downsample", [1, 1, 4, 4]) : []),
    ...memoryAttention(config),
    ...memoryEncoder(config),
    ...promptEncoder(config),
    ...maskDecoder(config),
    ...pointers(config),
  ];
}

/** The one tensor that is data of the model and no weight. */
export const POINT_ENCODING_MATRIX = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix";
/** Channels between the two halves of the mask prompt's path. */
const MASK_PROMPT_CHANNELS = 16;

function embeddings({ neck, memoryEncoder, tracking, maskDecoder }: Sam2Config): ParameterSpec[] {
  const { channels } = neck;
  const memory = memoryEncoder.channels;
  return [
    spec("maskmem_tpos_enc", [tracking.memoryFrameCount, 1, 1, memory]),
    spec("no_mem_embed", [1, 1, channels]),
    spec("no_mem_pos_enc", [1, 1, channels]),
    ...(tracking.pointers && maskDecoder.objectScore ? [spec("no_obj_ptr", [1, channels])] : []),
    ...(tracking.noObjectEmbedding ? [spec("no_obj_embed_spatial", [1, memory])] : []),
  ];
}

function imageEncoder({ trunk, neck }: Sam2Config): ParameterSpec[] {
  const name = "image_encoder.trunk";
  const { embedDim, windows, backgroundSize } = trunk;
  const side = windows[0] ?? 1;
  const lowestFirst = stageChannels(trunk).toReversed();
  return [
    spec(`${name}.pos_embed`, [1, embedDim, ...backgroundSize]),
    spec(`${name}.pos_embed_window`, [1, embedDim, side, side]),
    ...conv(`${name}.patch_embed.proj`, [embedDim, 3, 7, 7]),
    ...hieraBlocks(trunk).flatMap(({ index, inChannels, outChannels }) => {
      const block = `${name}.blocks.${index}`;
      return [
        ...norm(`${block}.norm1`, inChannels),
        ...linear(`${block}.attn.qkv`, inChannels, 3 * outChannels),
        ...linear(`${block}.attn.proj`, outChannels, outChannels),
        ...norm(`${block}.norm2`, outChannels),
        ...mlp(`${block}.mlp`, [outChannels, 4 * outChannels, outChannels]),
        ...(inChannels === outChannels ? [] : linear(`${block}.proj`, inChannels, outChannels)),
      ];
    }),
    ...lowestFirst.flatMap((channels, level) =>
      conv(`image_encoder.neck.convs.${level}.conv`, [neck.channels, channels, 1, 1]),
    ),
  ];
}

function memoryAttention({ neck, memoryAttention: record, memoryEncoder }: Sam2Config): ParameterSpec[] {
  const { channels } = neck;
  const layers = range(record.layerCount).flatMap((layer) => {
    const name = `memory_attention.layers.${layer}`;
    const self = { channels, inner: channels / record.selfAttention.downsampleRate };
    const cross = { channels, inner: channels / record.crossAttention.downsampleRate };
    return [
      ...attention(`${name}.self_attn`, self),
      ...attention(`${name}.cross_attn_image`, { ...cross, keyChannels: memoryEncoder.channels }),
      ...linear(`${name}.linear1`, channels, record.feedForwardChannels),
      ...linear(`${name}.linear2`, record.feedForwardChannels, channels),
      ...[1, 2, 3].flatMap((index) => norm(`${name}.norm${index}`, channels)),
    ];
  });
  return [...layers, ...norm("memory_attention.norm", channels)];
}

function memoryEncoder({ neck, memoryEncoder: record }: Sam2Config): ParameterSpec[] {
  const { channels } = neck;
  const { maskDownsampler, fuser } = record;
  const name = "memory_encoder";
  const steps = maskDownsamplerChannels(record);
  const downsampler = steps.slice(1).flatMap((outChannels, step) => {
    const side = maskDownsampler.kernelSize;
    return [
      ...conv(`${name}.mask_downsampler.encoder.${3 * step}`, [outChannels, steps[step] ?? 0, side, side]),
      ...norm(`${name}.mask_downsampler.encoder.${3 * step + 1}`, outChannels),
    ];
  });
  const last = 3 * (steps.length - 1);
  const layers = range(fuser.layerCount).flatMap((layer) => {
    const block = `${name}.fuser.layers.${layer}`;
    const side = fuser.kernelSize;
    return [
      ...(fuser.layerScale ? [spec(`${block}.gamma`, [channels])] : []),
      ...conv(`${block}.dwconv`, [channels, fuser.depthwise ? 1 : channels, side, side]),
      ...norm(`${block}.norm`, channels),
      ...linear(`${block}.pwconv1`, channels, 4 * channels),
      ...linear(`${block}.pwconv2`, 4 * channels, channels),
    ];
  });
  return [
    ...downsampler,
    ...conv(`${name}.mask_downsampler.encoder.${last}`, [channels, steps.at(-1) ?? 0, 1, 1]),
    ...conv(`${name}.pix_feat_proj`, [channels, channels, 1, 1]),
    ...layers,
    ...(record.channels === channels ? [] : conv(`${name}.out_proj`, [record.channels, channels, 1, 1])),
  ];
}

/** Channels before and after every strided convolution: each keeps the number of elements. */
export function maskDownsamplerChannels({ maskDownsampler }: Sam2Config["memoryEncoder"]): number[] {
  const { stride } = maskDownsampler;
  const channels = [1];
  for (let total = stride; total <= 16; total *= stride)
    channels.push((channels.at(-1) ?? 1) * stride * stride);
  return channels;
}

function promptEncoder({ neck }: Sam2Config): ParameterSpec[] {
  const { channels } = neck;
  const name = "sam_prompt_encoder";
  const [middle, last] = [MASK_PROMPT_CHANNELS / 4, MASK_PROMPT_CHANNELS];
  return [
    spec(POINT_ENCODING_MATRIX, [2, channels / 2]),
    ...range(4).map((label) => spec(`${name}.point_embeddings.${label}.weight`, [1, channels])),
    spec(`${name}.not_a_point_embed.weight`, [1, channels]),
    ...conv(`${name}.mask_downscaling.0`, [middle, 1, 2, 2]),
    ...norm(`${name}.mask_downscaling.1`, middle),
    ...conv(`${name}.mask_downscaling.3`, [last, middle, 2, 2]),
    ...norm(`${name}.mask_downscaling.4`, last),
    ...conv(`${name}.mask_downscaling.6`, [channels, last, 1, 1]),
    spec(`${name}.no_mask_embed.weight`, [1, channels]),
  ];
}

function maskDecoder({ neck, maskDecoder: record }: Sam2Config): ParameterSpec[] {
  const { channels } = neck;
  const name = "sam_mask_decoder";
  const maskCount = record.multimaskCount + 1;
  const { iouHeadChannels, iouHeadDepth } = record;
  return [
    ...twoWayTransformer(`${name}.transformer`, channels, record),
    spec(`${name}.iou_token.weight`, [1, channels]),
    spec(`${name}.mask_tokens.weight`, [maskCount, channels]),
    ...(record.objectScore ? [spec(`${name}.obj_score_token.weight`, [1, channels])] : []),
    ...transposed(`${name}.output_upscaling.0`, [channels, channels / 4, 2, 2]),
    ...norm(`${name}.output_upscaling.1`, channels / 4),
    ...transposed(`${name}.output_upscaling.3`, [channels / 4, channels / 8, 2, 2]),
    ...(record.highResolution ? conv(`${name}.conv_s0`, [channels / 8, channels, 1, 1]) : []),
    ...(record.highResolution ? conv(`${name}.conv_s1`, [channels / 4, channels, 1, 1]) : []),
    ...range(maskCount).flatMap((mask) =>
      mlp(`${name}.output_hypernetworks_mlps.${mask}`, [channels, channels, channels, channels / 8]),
    ),
    ...mlp(`${name}.iou_prediction_head`, [
      channels,
      ...range(iouHeadDepth - 1).map(() => iouHeadChannels),
      maskCount,
    ]),
    ...objectScoreHead(`${name}.pred_obj_score_head`, channels, record),
  ];
}

function objectScoreHead(name: string, channels: number, record: Sam2Config["maskDecoder"]): ParameterSpec[] {
  if (!record.objectScore) return [];
  return record.objectScoreMlp ? mlp(name, [channels, channels, channels, 1]) : linear(name, channels, 1);
}

function twoWayTransformer(
  name: string,
  channels: number,
  { depth, mlpChannels, attentionDownsampleRate }: Sam2Config["maskDecoder"],
): ParameterSpec[] {
  const cross = { channels, inner: channels / attentionDownsampleRate };
  const layers = range(depth).flatMap((layer) => {
    const at = `${name}.layers.${layer}`;
    return [
      ...attention(`${at}.self_attn`, { channels, inner: channels }),
      ...norm(`${at}.norm1`, channels),
      ...attention(`${at}.cross_attn_token_to_image`, cross),
      ...norm(`${at}.norm2`, channels),
      ...mlp(`${at}.mlp`, [channels, mlpChannels, channels]),
      ...norm(`${at}.norm3`, channels),
      ...norm(`${at}.norm4`, channels),
      ...attention(`${at}.cross_attn_image_to_token`, cross),
    ];
  });
  const last = attention(`${name}.final_attn_token_to_image`, cross);
  return [...layers, ...last, ...norm(`${name}.norm_final_attn`, channels)];
}

function pointers({ neck, memoryEncoder, tracking }: Sam2Config): ParameterSpec[] {
  if (!tracking.pointers) return [];
  const { channels } = neck;
  const { mlp: deep, timeEncoding } = tracking.pointers;
  return [
    ...(deep
      ? mlp("obj_ptr_proj", [channels, channels, channels, channels])
      : linear("obj_ptr_proj", channels, channels)),
    ...(timeEncoding === "projected" ? linear("obj_ptr_tpos_proj", channels, memoryEncoder.channels) : []),
  ];
}

type AttentionWidths = { readonly channels: number; readonly inner: number; readonly keyChannels?: number };

function attention(
  name: string,
  { channels, inner, keyChannels = channels }: AttentionWidths,
): ParameterSpec[] {
  return [
    ...linear(`${name}.q_proj`, channels, inner),
    ...linear(`${name}.k_proj`, keyChannels, inner),
    ...linear(`${name}.v_proj`, keyChannels, inner),
    ...linear(`${name}.out_proj`, inner, channels),
  ];
}

/** Widths from the input to the output. */
function mlp(name: string, widths: readonly number[]): ParameterSpec[] {
  return widths
    .slice(1)
    .flatMap((width, layer) => linear(`${name}.layers.${layer}`, widths[layer] ?? 0, width));
}

function linear(name: string, inChannels: number, outChannels: number): ParameterSpec[] {
  return [spec(`${name}.weight`, [outChannels, inChannels]), spec(`${name}.bias`, [outChannels])];
}

/** Output channels come first. */
function conv(name: string, shape: [number, number, number, number]): ParameterSpec[] {
  return [spec(`${name}.weight`, shape), spec(`${name}.bias`, [shape[0]])];
}

/** Input channels come first, as PyTorch stores a transposed convolution. */
function transposed(name: string, shape: [number, number, number, number]): ParameterSpec[] {
  return [spec(`${name}.weight`, shape), spec(`${name}.bias`, [shape[1]])];
}

function norm(name: string, channels: number): ParameterSpec[] {
  return [spec(`${name}.weight`, [channels]), spec(`${name}.bias`, [channels])];
}

function spec(name: string, shape: number[]): ParameterSpec {
  return { name, shape, dtype: "F32" };
}

function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}
