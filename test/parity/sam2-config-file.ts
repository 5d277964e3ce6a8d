// The official configuration of a SAM 2 model, read whole into this project's record. Closed schemas: a key or a value
// that the record cannot hold fails by its name.

import { parseSam2Config, type Sam2Config } from "@consilium/shared/model/sam2.ts";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { CaseError } from "./case-folder.ts";

const optional = Type.Optional;
const closed = { additionalProperties: false };
const target = (name: string) => optional(Type.Literal(`sam2.modeling.${name}`));

const PositionEncoding = Type.Object(
  {
    _target_: target("position_encoding.PositionEmbeddingSine"),
    num_pos_feats: Type.Integer(),
    normalize: optional(Type.Literal(true)),
    scale: optional(Type.Null()),
    temperature: optional(Type.Number()),
    // These warm a cache.
    warmup_cache: optional(Type.Boolean()),
    image_size: optional(Type.Integer()),
    strides: optional(Type.Array(Type.Integer())),
  },
  closed,
);

const Pair = Type.Tuple([Type.Integer(), Type.Integer()]);

const Trunk = Type.Object(
  {
    _target_: target("backbones.hieradet.Hiera"),
    embed_dim: Type.Integer(),
    num_heads: Type.Integer(),
    stages: Type.Array(Type.Integer()),
    window_spec: optional(Type.Array(Type.Integer())),
    global_att_blocks: optional(Type.Array(Type.Integer())),
    window_pos_embed_bkg_spatial_size: optional(Pair),
    q_pool: optional(Type.Integer()),
    q_stride: optional(Type.Tuple([Type.Literal(2), Type.Literal(2)])),
    dim_mul: optional(Type.Number()),
    head_mul: optional(Type.Number()),
    // Without effect outside training.
    drop_path_rate: optional(Type.Number()),
    weights_path: optional(Type.Null()),
    return_interm_layers: optional(Type.Literal(true)),
  },
  closed,
);

const Neck = Type.Object(
  {
    _target_: target("backbones.image_encoder.FpnNeck"),
    position_encoding: PositionEncoding,
    d_model: Type.Integer(),
    backbone_channel_list: Type.Array(Type.Integer()),
    kernel_size: optional(Type.Literal(1)),
    stride: optional(Type.Literal(1)),
    padding: optional(Type.Literal(0)),
    fpn_interp_model: optional(Type.String()),
    fuse_type: optional(Type.String()),
    fpn_top_down_levels: optional(Type.Union([Type.Null(), Type.Array(Type.Integer())])),
  },
  closed,
);

const RotaryAttention = Type.Object(
  {
    _target_: target("sam.transformer.RoPEAttention"),
    rope_theta: optional(Type.Number()),
    rope_k_repeat: optional(Type.Boolean()),
    feat_sizes: optional(Pair),
    embedding_dim: Type.Integer(),
    num_heads: Type.Integer(),
    downsample_rate: optional(Type.Integer()),
    dropout: optional(Type.Number()),
    kv_in_dim: optional(Type.Integer()),
  },
  closed,
);

const MemoryAttention = Type.Object(
  {
    _target_: target("memory_attention.MemoryAttention"),
    d_model: Type.Integer(),
    pos_enc_at_input: Type.Boolean(),
    num_layers: Type.Integer(),
    batch_first: optional(Type.Literal(true)),
    layer: Type.Object(
      {
        _target_: target("memory_attention.MemoryAttentionLayer"),
        activation: Type.String(),
        dim_feedforward: Type.Integer(),
        dropout: Type.Number(),
        pos_enc_at_attn: Type.Boolean(),
        self_attention: RotaryAttention,
        d_model: Type.Integer(),
        pos_enc_at_cross_attn_keys: Type.Boolean(),
        pos_enc_at_cross_attn_queries: Type.Boolean(),
        cross_attention: RotaryAttention,
      },
      closed,
    ),
  },
  closed,
);

const MemoryEncoder = Type.Object(
  {
    _target_: target("memory_encoder.MemoryEncoder"),
    out_dim: Type.Integer(),
    in_dim: optional(Type.Integer()),
    position_encoding: PositionEncoding,
    mask_downsampler: Type.Object(
      {
        _target_: target("memory_encoder.MaskDownSampler"),
        embed_dim: optional(Type.Integer()),
        kernel_size: optional(Type.Integer()),
        stride: optional(Type.Integer()),
        padding: optional(Type.Integer()),
        total_stride: optional(Type.Literal(16)),
      },
      closed,
    ),
    fuser: Type.Object(
      {
        _target_: target("memory_encoder.Fuser"),
        layer: Type.Object(
          {
            _target_: target("memory_encoder.CXBlock"),
            dim: Type.Integer(),
            kernel_size: optional(Type.Integer()),
            padding: optional(Type.Integer()),
            layer_scale_init_value: optional(Type.Number()),
            use_dwconv: optional(Type.Boolean()),
            drop_path: optional(Type.Number()),
          },
          closed,
        ),
        num_layers: Type.Integer(),
        dim: optional(Type.Union([Type.Null(), Type.Integer()])),
        input_projection: optional(Type.Literal(false)),
      },
      closed,
    ),
  },
  closed,
);

const DecoderArguments = Type.Object(
  {
    dynamic_multimask_via_stability: optional(Type.Boolean()),
    dynamic_multimask_stability_delta: optional(Type.Number()),
    dynamic_multimask_stability_thresh: optional(Type.Number()),
  },
  closed,
);

const flag = optional(Type.Boolean());
const OfficialConfig = Type.Object(
  {
    _target_: target("sam2_base.SAM2Base"),
    image_encoder: Type.Object(
      {
        _target_: target("backbones.image_encoder.ImageEncoder"),
        scalp: optional(Type.Integer()),
        trunk: Trunk,
        neck: Neck,
      },
      closed,
    ),
    memory_attention: MemoryAttention,
    memory_encoder: MemoryEncoder,
    num_maskmem: optional(Type.Integer()),
    image_size: optional(Type.Integer()),
    backbone_stride: optional(Type.Literal(16)),
    sigmoid_scale_for_mem_enc: optional(Type.Number()),
    sigmoid_bias_for_mem_enc: optional(Type.Number()),
    binarize_mask_from_pts_for_mem_enc: flag,
    use_mask_input_as_output_without_sam: flag,
    max_cond_frames_in_attn: optional(Type.Integer()),
    directly_add_no_mem_embed: Type.Literal(true),
    use_high_res_features_in_sam: flag,
    multimask_output_in_sam: flag,
    multimask_min_pt_num: optional(Type.Integer()),
    multimask_max_pt_num: optional(Type.Integer()),
    multimask_output_for_tracking: flag,
    use_multimask_token_for_obj_ptr: flag,
    iou_prediction_use_sigmoid: flag,
    memory_temporal_stride_for_eval: optional(Type.Integer()),
    non_overlap_masks_for_mem_enc: optional(Type.Literal(false)),
    use_obj_ptrs_in_encoder: flag,
    max_obj_ptrs_in_encoder: optional(Type.Integer()),
    add_tpos_enc_to_obj_ptrs: flag,
    proj_tpos_enc_in_obj_ptrs: flag,
    use_signed_tpos_enc_to_obj_ptrs: flag,
    only_obj_ptrs_in_the_past_for_eval: flag,
    pred_obj_scores: flag,
    pred_obj_scores_mlp: flag,
    fixed_no_obj_ptr: flag,
    soft_no_obj_ptr: flag,
    use_mlp_for_obj_ptr_proj: flag,
    no_obj_embed_spatial: flag,
    sam_mask_decoder_extra_args: optional(Type.Union([Type.Null(), DecoderArguments])),
    compile_image_encoder: optional(Type.Literal(false)),
  },
  closed,
);
type Official = Static<typeof OfficialConfig>;

/** @throws CaseError, Sam2Error that name every key that is not understood */
export function readSam2Config(value: unknown): Sam2Config {
  if (!Value.Check(OfficialConfig, value)) {
    const faults = Value.Errors(OfficialConfig, value).map(
      ({ instancePath, message, params }) => `${instancePath} ${message} ${JSON.stringify(params)}`,
    );
    throw new CaseError(`config.json is not understood: ${faults.join("; ")}`);
  }
  const faults = contradictions(value);
  if (faults.length > 0) throw new CaseError(`config.json contradicts itself: ${faults.join("; ")}`);
  return parseSam2Config({
    imageSize: value.image_size ?? 512,
    trunk: trunk(value.image_encoder.trunk),
    neck: neck(value.image_encoder),
    memoryAttention: memoryAttention(value.memory_attention),
    memoryEncoder: memoryEncoder(value.memory_encoder),
    maskDecoder: maskDecoder(value),
    tracking: tracking(value),
  });
}

/** Widths that are told twice. */
function contradictions({ image_encoder: { trunk: own, neck: pyramid }, ...value }: Official): string[] {
  const { memory_attention: attention, memory_encoder: encoder } = value;
  const width = pyramid.d_model;
  const stages = own.stages.map((_, stage) => Math.floor(own.embed_dim * (own.dim_mul ?? 2) ** stage));
  const { self_attention: self, cross_attention: cross } = attention.layer;
  const { layer } = encoder.fuser;
  const checks: Readonly<Record<string, boolean>> = {
    "neck.backbone_channel_list": pyramid.backbone_channel_list.join() === stages.toReversed().join(),
    "neck.position_encoding.num_pos_feats": pyramid.position_encoding.num_pos_feats === width,
    "memory_attention.d_model": attention.d_model === width && attention.layer.d_model === width,
    "memory_attention embedding_dim": self.embedding_dim === width && cross.embedding_dim === width,
    "self_attention.kv_in_dim": (self.kv_in_dim ?? width) === width,
    "cross_attention.kv_in_dim": (cross.kv_in_dim ?? width) === encoder.out_dim,
    "cross_attention.rope_k_repeat": cross.rope_k_repeat === true,
    "memory_encoder.in_dim": (encoder.in_dim ?? 256) === width,
    "mask_downsampler.embed_dim": (encoder.mask_downsampler.embed_dim ?? 256) === width,
    "fuser.layer.dim": layer.dim === width,
    "fuser.layer.padding": (layer.padding ?? 3) === ((layer.kernel_size ?? 7) - 1) / 2,
    "memory_encoder.position_encoding.num_pos_feats":
      encoder.position_encoding.num_pos_feats === encoder.out_dim,
  };
  return Object.entries(checks).flatMap(([name, agrees]) => (agrees ? [] : [name]));
}

function trunk(own: Official["image_encoder"]["trunk"]): Sam2Config["trunk"] {
  return {
    embedDim: own.embed_dim,
    headCount: own.num_heads,
    stages: own.stages,
    windows: own.window_spec ?? [8, 4, 14, 7],
    globalBlocks: own.global_att_blocks ?? [12, 16, 20],
    poolCount: own.q_pool ?? 3,
    dimFactor: own.dim_mul ?? 2,
    headFactor: own.head_mul ?? 2,
    backgroundSize: own.window_pos_embed_bkg_spatial_size ?? [14, 14],
  };
}

/** Words are checked by the record's own parser. */
function neck({ neck: own, scalp = 0 }: Official["image_encoder"]): unknown {
  return {
    channels: own.d_model,
    topDownLevels: own.fpn_top_down_levels ?? own.backbone_channel_list.map((_, level) => level),
    interpolation: own.fpn_interp_model ?? "bilinear",
    fusion: own.fuse_type ?? "sum",
    scalp,
    positionTemperature: own.position_encoding.temperature ?? 10_000,
  };
}

function memoryAttention({ layer, ...own }: Official["memory_attention"]): unknown {
  return {
    layerCount: own.num_layers,
    feedForwardChannels: layer.dim_feedforward,
    activation: layer.activation,
    selfAttention: rotaryAttention(layer.self_attention),
    crossAttention: rotaryAttention(layer.cross_attention),
    positionAtInput: own.pos_enc_at_input,
    positionAtSelfAttention: layer.pos_enc_at_attn,
    positionAtQueries: layer.pos_enc_at_cross_attn_queries,
    positionAtKeys: layer.pos_enc_at_cross_attn_keys,
  };
}

function rotaryAttention(
  own: Static<typeof RotaryAttention>,
): Sam2Config["memoryAttention"]["selfAttention"] {
  return {
    headCount: own.num_heads,
    downsampleRate: own.downsample_rate ?? 1,
    theta: own.rope_theta ?? 10_000,
    gridSize: own.feat_sizes ?? [64, 64],
  };
}

function memoryEncoder({ mask_downsampler: mask, fuser, ...own }: Official["memory_encoder"]): unknown {
  const { layer } = fuser;
  return {
    channels: own.out_dim,
    positionTemperature: own.position_encoding.temperature ?? 10_000,
    maskDownsampler: {
      kernelSize: mask.kernel_size ?? 4,
      stride: mask.stride ?? 4,
      padding: mask.padding ?? 0,
    },
    fuser: {
      layerCount: fuser.num_layers,
      kernelSize: layer.kernel_size ?? 7,
      depthwise: layer.use_dwconv ?? true,
      layerScale: (layer.layer_scale_init_value ?? 1e-6) > 0,
    },
  };
}

/** Depth, heads and widths of the decoder are constants of the official code. */
function maskDecoder(own: Official): Sam2Config["maskDecoder"] {
  const extra = own.sam_mask_decoder_extra_args ?? {};
  return {
    depth: 2,
    headCount: 8,
    mlpChannels: 2048,
    attentionDownsampleRate: 2,
    multimaskCount: 3,
    iouHeadDepth: 3,
    iouHeadChannels: 256,
    iouSigmoid: own.iou_prediction_use_sigmoid ?? false,
    highResolution: own.use_high_res_features_in_sam ?? false,
    objectScore: own.pred_obj_scores ?? false,
    objectScoreMlp: own.pred_obj_scores_mlp ?? false,
    multimaskTokenForPointer: own.use_multimask_token_for_obj_ptr ?? false,
    dynamicMultimask: extra.dynamic_multimask_via_stability
      ? {
          stabilityDelta: extra.dynamic_multimask_stability_delta ?? 0.05,
          stabilityMin: extra.dynamic_multimask_stability_thresh ?? 0.98,
        }
      : null,
  };
}

function tracking(own: Official): Sam2Config["tracking"] {
  const frameCountMax = own.max_cond_frames_in_attn ?? -1;
  return {
    memoryFrameCount: own.num_maskmem ?? 7,
    conditioningFrameCountMax: frameCountMax === -1 ? null : frameCountMax,
    memoryStride: own.memory_temporal_stride_for_eval ?? 1,
    maskScale: own.sigmoid_scale_for_mem_enc ?? 1,
    maskBias: own.sigmoid_bias_for_mem_enc ?? 0,
    binarizePromptedMasks: own.binarize_mask_from_pts_for_mem_enc ?? false,
    maskInputIsOutput: own.use_mask_input_as_output_without_sam ?? false,
    noObjectEmbedding: own.no_obj_embed_spatial ?? false,
    multimask: own.multimask_output_in_sam
      ? {
          pointCountMin: own.multimask_min_pt_num ?? 1,
          pointCountMax: own.multimask_max_pt_num ?? 1,
          whileTracking: own.multimask_output_for_tracking ?? false,
        }
      : null,
    pointers: own.use_obj_ptrs_in_encoder ? pointers(own) : null,
  };
}

function pointers(own: Official): Sam2Config["tracking"]["pointers"] {
  const encoded = own.proj_tpos_enc_in_obj_ptrs ? "projected" : "plain";
  return {
    countMax: own.max_obj_ptrs_in_encoder ?? 16,
    mlp: own.use_mlp_for_obj_ptr_proj ?? false,
    timeEncoding: (own.add_tpos_enc_to_obj_ptrs ?? true) ? encoded : "none",
    signedTime: own.use_signed_tpos_enc_to_obj_ptrs ?? false,
    onlyPast: own.only_obj_ptrs_in_the_past_for_eval ?? false,
    absent: own.fixed_no_obj_ptr ? "replaced" : "added",
    softAbsence: own.soft_no_obj_ptr ?? false,
  };
}
