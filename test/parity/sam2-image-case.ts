// The groups `encoder`, `prompt` and `decoder` of a SAM 2 case: one image, every prompt that the inputs or the reference
// name, and every way to choose among the masks.

import { embeddingSize, type Sam2Config } from "@consilium/shared/model/sam2.ts";
import { hieraBlocks } from "@consilium/shared/model/sam2-trunk.ts";
import { tf } from "../../site-agent/backend/tensors.ts";
import { sineImagePositions } from "../../site-agent/models/nn/sine-positions.ts";
import type { ImageFeatures } from "../../site-agent/models/sam2/image-encoder.ts";
import { severalMasks, singleMask, stabilityScores } from "../../site-agent/models/sam2/mask-choice.ts";
import type { DecodedMasks } from "../../site-agent/models/sam2/mask-decoder.ts";
import type { Prompts } from "../../site-agent/models/sam2/prompt-encoder.ts";
import { CaseError, type CaseFolder } from "./case-folder.ts";
import type { Comparison } from "./comparison.ts";
import type { ObservedSam2 } from "./observed-sam2.ts";
import { stabilityAllowance } from "./stability-allowance.ts";
import { image, plain, storedImage } from "./torch-order.ts";

const STABILITY_DELTA = 0.05;

/** @returns the features of the image, which belong to the caller */
export function compareEncoder(
  model: ObservedSam2,
  frame: tf.Tensor4D,
  comparison: Comparison,
): ImageFeatures {
  const { config } = model.sam2;
  const trunk = "image_encoder.trunk";
  const names = new Map<string, string[]>([
    [`${trunk}.patch_embed`, ["encoder/patch_embed"]],
    [`${trunk}.pos_embed`, ["encoder/pos_embed"]],
    ["sam_mask_decoder.conv_s0", ["encoder/high0"]],
    ["sam_mask_decoder.conv_s1", ["encoder/high1"]],
  ]);
  let stage = 0;
  for (const { index, endsStage } of hieraBlocks(config.trunk)) {
    const ended = endsStage ? [`encoder/stage${stage}`] : [];
    names.set(`${trunk}.blocks.${index}`, [`encoder/block${index}`, ...ended]);
    stage += ended.length;
  }
  for (const level of [0, 1, 2, 3]) names.set(`image_encoder.neck.level${level}`, [`encoder/fpn${level}`]);
  const features = model.observing(
    (part, value) => {
      for (const name of names.get(part) ?? []) comparison.offer(name, () => image(value));
      const level = /^image_encoder\.neck\.level(\d)$/.exec(part)?.[1];
      if (level) comparison.offer(`encoder/pos${level}`, () => sinePositions(value, config));
    },
    () => model.sam2.encode(frame),
  );
  comparison.offer("encoder/vision_features", () => image(features.embedding));
  return features;
}

/** Of one level of the pyramid, [1, C, H, W]. */
function sinePositions(level: tf.Tensor, { neck }: Sam2Config) {
  const [, height = 0, width = 0, channels = 0] = level.shape;
  const sines = sineImagePositions({ height, width, channels, temperature: neck.positionTemperature });
  return image(tf.tensor4d(sines, [1, height, width, channels]));
}

export function promptNames({ inputs, tolerances }: CaseFolder): string[] {
  const names = [...inputs.keys(), ...Object.keys(tolerances)].flatMap((name) => {
    const [, group, prompt, rest] =
      /^(?:chmean\/|chabsmean\/)?(prompt|decoder)\/([^/@]+)(\/.*)$/.exec(name) ?? [];
    return group && prompt && rest ? [prompt] : [];
  });
  return [...new Set(names)];
}

/** Prompts by their name among the inputs; a name without inputs is no prompt at all. */
export function readPrompts({ inputs }: CaseFolder, name: string): Prompts {
  const at = (part: string) => inputs.get(`prompt/${name}/${part}`);
  const known = ["coords", "labels", "boxes", "mask"];
  const unknown = [...inputs.keys()].filter(
    (key) => key.startsWith(`prompt/${name}/`) && !known.includes(key.split("/")[2] ?? ""),
  );
  if (unknown.length > 0) throw new CaseError(`inputs are not understood: ${unknown.join(", ")}`);
  const [coords, labels, boxes, mask] = known.map(at);
  const pointCount = labels?.shape[1] ?? 0;
  return {
    ...(coords && labels && { points: { coordinates: coords.values, labels: labels.values, pointCount } }),
    ...(boxes && { boxes: boxes.values }),
    ...(mask && { masks: storedImage(mask) }),
  };
}

export function comparePrompt(
  model: ObservedSam2,
  features: ImageFeatures,
  name: string,
  { folder, comparison }: { readonly folder: CaseFolder; readonly comparison: Comparison },
): void {
  tf.tidy(() => {
    const { config } = model.sam2;
    const side = embeddingSize(config);
    const prompts = readPrompts(folder, name);
    const decoder = `decoder/${name}`;
    const decoded = model.observing(
      (part, value) => {
        if (part === "sam_prompt_encoder.dense_pe") {
          const shape: [number, number, number, number] = [1, side, side, config.neck.channels];
          comparison.offer("prompt/dense_pe", () => image(tf.reshape(value, shape)));
        }
        if (part === "sam_prompt_encoder.sparse")
          comparison.offer(`prompt/${name}/sparse`, () => plain(value));
        if (part === "sam_prompt_encoder.dense") comparison.offer(`prompt/${name}/dense`, () => image(value));
        if (part === "sam_mask_decoder.transformer.tokens")
          comparison.offer(`${decoder}/tokens_hs`, () => plain(value));
        if (part === "sam_mask_decoder.transformer.image")
          comparison.offer(`${decoder}/keys`, () => plain(value));
      },
      () => model.sam2.segment(features, prompts),
    );
    comparison.offer(`prompt/${name}/sparse`, () => ({ shape: [1, 0, config.neck.channels], values: [] }));
    compareMasks(decoded, decoder, config, { folder, comparison });
  });
}

function compareMasks(
  decoded: DecodedMasks,
  name: string,
  config: Sam2Config,
  { folder, comparison }: { readonly folder: CaseFolder; readonly comparison: Comparison },
): void {
  comparison.offer(`${name}/masks4`, () => plain(decoded.masks));
  comparison.offer(`${name}/iou4`, () => plain(decoded.ious));
  comparison.offer(`${name}/mask_tokens`, () => plain(decoded.tokens));
  comparison.offer(`${name}/object_score`, () => plain(decoded.objectScores));
  const delta = config.maskDecoder.dynamicMultimask?.stabilityDelta ?? STABILITY_DELTA;
  const single = singleMask(decoded, null);
  const allowance = stabilityAllowance(folder, `${name}/masks4`, { delta, found: decoded.masks });
  comparison.offer(`${name}/stability`, () => plain(stabilityScores(single.masks, delta)), allowance);
  const choices = new Set(comparison.openUnder(name).map((rest) => rest.split("/")[0] ?? ""));
  for (const choice of choices) {
    const stabilityMin = Number(/^dynamic([\d.]+)$/.exec(choice)?.[1] ?? Number.NaN);
    const rule = Number.isNaN(stabilityMin) ? null : { stabilityDelta: delta, stabilityMin };
    if (!rule && choice !== "multimask0" && choice !== "multimask1") continue;
    const chosen =
      choice === "multimask1" ? severalMasks(decoded, config.maskDecoder) : singleMask(decoded, rule);
    comparison.offer(`${name}/${choice}/masks`, () => plain(chosen.masks));
    comparison.offer(`${name}/${choice}/iou`, () => plain(chosen.ious));
    comparison.offer(`${name}/${choice}/sam_tokens`, () => plain(chosen.tokens));
  }
}
