// Names of SAM 2.1's tensors in Hugging Face's transformers (facebook/sam2.1-hiera-*/model.safetensors) beside those of
// the original checkpoints, in one table that is read both ways. `#` stands for a number and `@` for weight or bias.
// Two things are more than a name: the four point embeddings are one tensor there, and the Fourier matrix stands twice.
// Source: transformers, models/sam2_video, conversion script.

/** Original name, Hugging Face name. Numbers keep their order. */
const PAIRS: readonly (readonly [string, string])[] = [
  ["maskmem_tpos_enc", "memory_temporal_positional_encoding"],
  ["no_mem_embed", "no_memory_embedding"],
  ["no_mem_pos_enc", "no_memory_positional_encoding"],
  ["no_obj_ptr", "no_object_pointer"],
  ["no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"],
  ["mask_downsample.@", "mask_downsample.@"],
  ["obj_ptr_tpos_proj.@", "temporal_positional_encoding_projection_layer.@"],
  ["obj_ptr_proj.layers.0.@", "object_pointer_proj.proj_in.@"],
  ["obj_ptr_proj.layers.1.@", "object_pointer_proj.layers.0.@"],
  ["obj_ptr_proj.layers.2.@", "object_pointer_proj.proj_out.@"],

  ["image_encoder.trunk.pos_embed", "vision_encoder.backbone.pos_embed"],
  ["image_encoder.trunk.pos_embed_window", "vision_encoder.backbone.pos_embed_window"],
  ["image_encoder.trunk.patch_embed.proj.@", "vision_encoder.backbone.patch_embed.projection.@"],
  ["image_encoder.trunk.blocks.#.norm#.@", "vision_encoder.backbone.blocks.#.layer_norm#.@"],
  ["image_encoder.trunk.blocks.#.attn.qkv.@", "vision_encoder.backbone.blocks.#.attn.qkv.@"],
  ["image_encoder.trunk.blocks.#.attn.proj.@", "vision_encoder.backbone.blocks.#.attn.proj.@"],
  ["image_encoder.trunk.blocks.#.mlp.layers.0.@", "vision_encoder.backbone.blocks.#.mlp.proj_in.@"],
  ["image_encoder.trunk.blocks.#.mlp.layers.1.@", "vision_encoder.backbone.blocks.#.mlp.proj_out.@"],
  ["image_encoder.trunk.blocks.#.proj.@", "vision_encoder.backbone.blocks.#.proj.@"],
  ["image_encoder.neck.convs.#.conv.@", "vision_encoder.neck.convs.#.@"],

  ["memory_attention.layers.#.self_attn.q_proj.@", "memory_attention.layers.#.self_attn.q_proj.@"],
  ["memory_attention.layers.#.self_attn.k_proj.@", "memory_attention.layers.#.self_attn.k_proj.@"],
  ["memory_attention.layers.#.self_attn.v_proj.@", "memory_attention.layers.#.self_attn.v_proj.@"],
  ["memory_attention.layers.#.self_attn.out_proj.@", "memory_attention.layers.#.self_attn.o_proj.@"],
  [
    "memory_attention.layers.#.cross_attn_image.q_proj.@",
    "memory_attention.layers.#.cross_attn_image.q_proj.@",
  ],
  [
    "memory_attention.layers.#.cross_attn_image.k_proj.@",
    "memory_attention.layers.#.cross_attn_image.k_proj.@",
  ],
  [
    "memory_attention.layers.#.cross_attn_image.v_proj.@",
    "memory_attention.layers.#.cross_attn_image.v_proj.@",
  ],
  [
    "memory_attention.layers.#.cross_attn_image.out_proj.@",
    "memory_attention.layers.#.cross_attn_image.o_proj.@",
  ],
  ["memory_attention.layers.#.linear#.@", "memory_attention.layers.#.linear#.@"],
  ["memory_attention.layers.#.norm#.@", "memory_attention.layers.#.layer_norm#.@"],
  ["memory_attention.norm.@", "memory_attention.layer_norm.@"],

  ["memory_encoder.mask_downsampler.encoder.0.@", "memory_encoder.mask_downsampler.layers.0.conv.@"],
  ["memory_encoder.mask_downsampler.encoder.1.@", "memory_encoder.mask_downsampler.layers.0.layer_norm.@"],
  ["memory_encoder.mask_downsampler.encoder.3.@", "memory_encoder.mask_downsampler.layers.1.conv.@"],
  ["memory_encoder.mask_downsampler.encoder.4.@", "memory_encoder.mask_downsampler.layers.1.layer_norm.@"],
  ["memory_encoder.mask_downsampler.encoder.6.@", "memory_encoder.mask_downsampler.layers.2.conv.@"],
  ["memory_encoder.mask_downsampler.encoder.7.@", "memory_encoder.mask_downsampler.layers.2.layer_norm.@"],
  ["memory_encoder.mask_downsampler.encoder.9.@", "memory_encoder.mask_downsampler.layers.3.conv.@"],
  ["memory_encoder.mask_downsampler.encoder.10.@", "memory_encoder.mask_downsampler.layers.3.layer_norm.@"],
  ["memory_encoder.mask_downsampler.encoder.12.@", "memory_encoder.mask_downsampler.final_conv.@"],
  ["memory_encoder.pix_feat_proj.@", "memory_encoder.feature_projection.@"],
  ["memory_encoder.fuser.layers.#.dwconv.@", "memory_encoder.memory_fuser.layers.#.depthwise_conv.@"],
  ["memory_encoder.fuser.layers.#.norm.@", "memory_encoder.memory_fuser.layers.#.layer_norm.@"],
  ["memory_encoder.fuser.layers.#.pwconv#.@", "memory_encoder.memory_fuser.layers.#.pointwise_conv#.@"],
  ["memory_encoder.fuser.layers.#.gamma", "memory_encoder.memory_fuser.layers.#.scale"],
  ["memory_encoder.out_proj.@", "memory_encoder.projection.@"],

  ["sam_prompt_encoder.not_a_point_embed.@", "prompt_encoder.not_a_point_embed.@"],
  ["sam_prompt_encoder.no_mask_embed.@", "prompt_encoder.no_mask_embed.@"],
  ["sam_prompt_encoder.mask_downscaling.0.@", "prompt_encoder.mask_embed.conv1.@"],
  ["sam_prompt_encoder.mask_downscaling.1.@", "prompt_encoder.mask_embed.layer_norm1.@"],
  ["sam_prompt_encoder.mask_downscaling.3.@", "prompt_encoder.mask_embed.conv2.@"],
  ["sam_prompt_encoder.mask_downscaling.4.@", "prompt_encoder.mask_embed.layer_norm2.@"],
  ["sam_prompt_encoder.mask_downscaling.6.@", "prompt_encoder.mask_embed.conv3.@"],

  ...["self_attn", "cross_attn_token_to_image", "cross_attn_image_to_token"].flatMap((attention) =>
    attentionPairs(`transformer.layers.#.${attention}`),
  ),
  ...attentionPairs("transformer.final_attn_token_to_image"),
  ["sam_mask_decoder.transformer.layers.#.mlp.layers.0.@", "mask_decoder.transformer.layers.#.mlp.proj_in.@"],
  [
    "sam_mask_decoder.transformer.layers.#.mlp.layers.1.@",
    "mask_decoder.transformer.layers.#.mlp.proj_out.@",
  ],
  ["sam_mask_decoder.transformer.layers.#.norm#.@", "mask_decoder.transformer.layers.#.layer_norm#.@"],
  ["sam_mask_decoder.transformer.norm_final_attn.@", "mask_decoder.transformer.layer_norm_final_attn.@"],
  ["sam_mask_decoder.iou_token.@", "mask_decoder.iou_token.@"],
  ["sam_mask_decoder.mask_tokens.@", "mask_decoder.mask_tokens.@"],
  ["sam_mask_decoder.obj_score_token.@", "mask_decoder.obj_score_token.@"],
  ["sam_mask_decoder.output_upscaling.0.@", "mask_decoder.upscale_conv1.@"],
  ["sam_mask_decoder.output_upscaling.1.@", "mask_decoder.upscale_layer_norm.@"],
  ["sam_mask_decoder.output_upscaling.3.@", "mask_decoder.upscale_conv2.@"],
  ["sam_mask_decoder.conv_s0.@", "mask_decoder.conv_s0.@"],
  ["sam_mask_decoder.conv_s1.@", "mask_decoder.conv_s1.@"],
  ...headPairs("output_hypernetworks_mlps.#"),
  ...headPairs("iou_prediction_head"),
  ...headPairs("pred_obj_score_head"),
];

const ORIGINAL_POINT_EMBEDDING = "sam_prompt_encoder.point_embeddings.";
/** Rows of the joined point embeddings: background, foreground, and a box's two corners. */
export const POINT_EMBEDDING_COUNT = 4;
export const JOINED_POINT_EMBEDDING = "prompt_encoder.point_embed.weight";
export const ORIGINAL_FOURIER = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix";
/** The same matrix under two names. */
export const FOURIER_NAMES = [
  "prompt_encoder.shared_embedding.positional_embedding",
  "shared_image_embedding.positional_embedding",
] as const;

function attentionPairs(place: string): [string, string][] {
  return ["q_proj", "k_proj", "v_proj", "out_proj"].map((projection) => [
    `sam_mask_decoder.${place}.${projection}.@`,
    `mask_decoder.${place}.${projection === "out_proj" ? "o_proj" : projection}.@`,
  ]);
}

/** Three-layer perceptrons. */
function headPairs(head: string): [string, string][] {
  return [
    [`sam_mask_decoder.${head}.layers.0.@`, `mask_decoder.${head}.proj_in.@`],
    [`sam_mask_decoder.${head}.layers.1.@`, `mask_decoder.${head}.layers.0.@`],
    [`sam_mask_decoder.${head}.layers.2.@`, `mask_decoder.${head}.proj_out.@`],
  ];
}

type Rule = { readonly pattern: RegExp; readonly template: string };

function rule(from: string, to: string): Rule {
  const pattern = from.replaceAll(".", "\\.").replaceAll("#", "([0-9]+)").replaceAll("@", "(weight|bias)");
  return { pattern: new RegExp(`^${pattern}$`), template: to };
}

const TO_ORIGINAL = PAIRS.map(([original, huggingFace]) => rule(huggingFace, original));
const TO_HUGGING_FACE = PAIRS.map(([original, huggingFace]) => rule(original, huggingFace));

function rewritten(name: string, rules: readonly Rule[]): string | null {
  for (const { pattern, template } of rules) {
    const found = pattern.exec(name);
    if (found === null) continue;
    let next = 0;
    return template.replaceAll(/[#@]/g, () => {
      next += 1;
      return found[next] ?? "";
    });
  }
  return null;
}

/** The original name of a tensor that has a name of its own there; null for all others. */
export function originalName(huggingFaceName: string): string | null {
  if ((FOURIER_NAMES as readonly string[]).includes(huggingFaceName)) return ORIGINAL_FOURIER; // Any string may be asked for.
  return rewritten(huggingFaceName, TO_ORIGINAL);
}

/** Where an original tensor stands at Hugging Face: names that all hold it, or one row of a joined tensor; or null. */
export function huggingFacePlace(
  name: string,
): { readonly names: readonly string[]; readonly row: number | null } | null {
  if (name === ORIGINAL_FOURIER) return { names: FOURIER_NAMES, row: null };
  const row = pointEmbeddingRow(name);
  if (row !== null) return { names: [JOINED_POINT_EMBEDDING], row };
  const found = rewritten(name, TO_HUGGING_FACE);
  return found === null ? null : { names: [found], row: null };
}

/** Original name of a row of the joined point embeddings. */
export function pointEmbeddingName(row: number): string {
  return `${ORIGINAL_POINT_EMBEDDING}${row}.weight`;
}

function pointEmbeddingRow(name: string): number | null {
  const rows = Array.from({ length: POINT_EMBEDDING_COUNT }, (_, row) => row);
  return rows.find((row) => pointEmbeddingName(row) === name) ?? null;
}
