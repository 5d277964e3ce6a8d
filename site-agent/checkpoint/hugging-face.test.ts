import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import {
  type BundledTensor,
  float32Tensor,
  writeTensorBundle,
} from "@consilium/shared/encoding/tensor-bundle.ts";
import t from "tap";
import { memorySource } from "./byte-source.ts";
import {
  FOURIER_NAMES,
  huggingFacePlace,
  JOINED_POINT_EMBEDDING,
  originalName,
} from "./hugging-face-names.ts";
import { readTensors } from "./open-checkpoint.ts";

const manifestFile = (folder: string): string =>
  fileURLToPath(new URL(`../../../shared/goldens/${folder}/weights-manifest.json`, import.meta.url));

type Param = { readonly name: string; readonly shape: readonly number[] };

function paramsOf(folder: string): readonly Param[] {
  const { params } = JSON.parse(readFileSync(manifestFile(folder), "utf8")) as { params: Param[] }; // Our own golden.
  return params;
}

/** The converter's own way, as its published list of substring replacements reads: in order, then by pattern. */
function converted(name: string): string {
  const replacements: readonly (readonly [string, string])[] = [
    ["iou_prediction_head.layers.0", "iou_prediction_head.proj_in"],
    ["iou_prediction_head.layers.1", "iou_prediction_head.layers.0"],
    ["iou_prediction_head.layers.2", "iou_prediction_head.proj_out"],
    ["mask_decoder.output_upscaling.0", "mask_decoder.upscale_conv1"],
    ["mask_decoder.output_upscaling.1", "mask_decoder.upscale_layer_norm"],
    ["mask_decoder.output_upscaling.3", "mask_decoder.upscale_conv2"],
    ["mask_downscaling.0", "mask_embed.conv1"],
    ["mask_downscaling.1", "mask_embed.layer_norm1"],
    ["mask_downscaling.3", "mask_embed.conv2"],
    ["mask_downscaling.4", "mask_embed.layer_norm2"],
    ["mask_downscaling.6", "mask_embed.conv3"],
    ["dwconv", "depthwise_conv"],
    ["pwconv", "pointwise_conv"],
    ["fuser", "memory_fuser"],
    ["point_embeddings", "point_embed"],
    ["pe_layer.positional_encoding_gaussian_matrix", "shared_embedding.positional_embedding"],
    ["obj_ptr_tpos_proj", "temporal_positional_encoding_projection_layer"],
    ["no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"],
    ["sam_prompt_encoder", "prompt_encoder"],
    ["sam_mask_decoder", "mask_decoder"],
    ["maskmem_tpos_enc", "memory_temporal_positional_encoding"],
    ["gamma", "scale"],
    ["image_encoder.neck", "vision_encoder.neck"],
    ["image_encoder", "vision_encoder.backbone"],
    ["pix_feat_proj", "feature_projection"],
    ["patch_embed.proj", "patch_embed.projection"],
    ["no_mem_embed", "no_memory_embedding"],
    ["no_mem_pos_enc", "no_memory_positional_encoding"],
    ["obj_ptr", "object_pointer"],
    [".norm", ".layer_norm"],
    ["trunk.", ""],
    ["out_proj", "o_proj"],
  ];
  const replaced = replacements.reduce((text, [from, to]) => text.replace(from, to), name);
  const layers = ["proj_in", "layers.0", "proj_out"];
  return replaced
    .replace(/(blocks|mask_decoder\.transformer\.layers)\.(\d+)\.mlp\.layers\.([01])/, (_, a, b, layer) => {
      return `${a}.${b}.mlp.${layer === "0" ? "proj_in" : "proj_out"}`;
    })
    .replace(
      /(output_hypernetworks_mlps\.\d+|pred_obj_score_head|object_pointer_proj)\.layers\.(\d)/,
      (_, head, layer) => `${head}.${layers[Number(layer)]}`,
    )
    .replace(/neck\.convs\.(\d+)\.conv\./, "neck.convs.$1.")
    .replace("memory_encoder.o_proj", "memory_encoder.projection")
    .replace(/mask_downsampler\.encoder\.(\d+)/, (_, index) => {
      if (index === "12") return "mask_downsampler.final_conv";
      const kind = Number(index) % 3 === 0 ? "conv" : "layer_norm";
      return `mask_downsampler.layers.${Math.floor(Number(index) / 3)}.${kind}`;
    });
}

t.test(
  "all 471 names of SAM 2.1 tiny go to Hugging Face's and back",
  { skip: !existsSync(manifestFile("sam2-tiny256-a")) && "no ../shared/goldens/sam2-tiny256-a" },
  async (t) => {
    const names = paramsOf("sam2-tiny256-a").map(({ name }) => name);
    t.equal(names.length, 471);
    for (const name of names) {
      const place = expectDefined(huggingFacePlace(name), name);
      if (place.row !== null) {
        t.strictSame(place, { names: [JOINED_POINT_EMBEDDING], row: Number(/\d/.exec(name)?.[0]) });
        continue;
      }
      if (place.names[0] !== converted(name)) t.equal(place.names[0], converted(name));
      for (const there of place.names) if (originalName(there) !== name) t.equal(originalName(there), name);
    }
    t.strictSame(huggingFacePlace("sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"), {
      names: FOURIER_NAMES,
      row: null,
    });
    t.equal(converted("x.norm1.weight"), "x.layer_norm1.weight", "the other way of converting does its work");
    t.equal(huggingFacePlace("image_encoder.trunk.adapter.weight"), null);
    t.equal(originalName("vision_encoder.backbone.blocks.x.layer_norm1.weight"), null);
  },
);

/** The same numbers under Hugging Face's names. */
function asHuggingFace(params: readonly Param[], values: (name: string) => Float32Array): BundledTensor[] {
  const joined = params.filter(({ name }) => huggingFacePlace(name)?.row !== null);
  const width = joined[0]?.shape[1] ?? 0;
  const points = new Float32Array(joined.length * width);
  for (const { name } of joined) points.set(values(name), (huggingFacePlace(name)?.row ?? 0) * width);
  return [
    ...params
      .filter((param) => !joined.includes(param))
      .flatMap(({ name, shape }) => {
        const { names } = expectDefined(huggingFacePlace(name), name);
        return names.map((there) => float32Tensor(there, shape, values(name)));
      }),
    float32Tensor(JOINED_POINT_EMBEDDING, [joined.length, width], points),
  ];
}

t.test(
  "a model under Hugging Face's names is read as under its own",
  { skip: !existsSync(manifestFile("sam2-micro-a")) && "no ../shared/goldens/sam2-micro-a" },
  async (t) => {
    const params = paramsOf("sam2-micro-a");
    const golden = readFileSync(manifestFile("sam2-micro-a").replace("-manifest.json", ".safetensors"));
    const original = readTensors(memorySource(golden));
    t.equal(original.form, "safetensors");
    const values = (name: string): Float32Array => expectDefined(original.tensors.get(name), name).read();
    const bundled = asHuggingFace(params, values);
    const { form, tensors } = readTensors(memorySource(writeTensorBundle(bundled)));
    t.equal(form, "safetensors-hugging-face");
    t.strictSame([...tensors.keys()].sort(), params.map(({ name }) => name).sort());
    for (const { name, shape } of params) {
      const tensor = expectDefined(tensors.get(name), name);
      t.strictSame(tensor.shape, shape);
      if (!Buffer.from(tensor.read().buffer).equals(Buffer.from(values(name).buffer))) t.fail(name);
    }

    const twice = bundled.findIndex(({ name }) => name === FOURIER_NAMES[1]);
    const wrong = bundled.with(twice, float32Tensor(FOURIER_NAMES[1], [2, 16], new Float32Array(32)));
    t.throws(() => readTensors(memorySource(writeTensorBundle(wrong))), { code: "checkpoint.names" });
    const more = [...bundled, float32Tensor("vision_encoder.extra", [1], Float32Array.of(0))];
    t.ok(
      readTensors(memorySource(writeTensorBundle(more))).tensors.has("vision_encoder.extra"),
      "is kept to be listed",
    );
  },
);
