// The groups `track/NAME` of a SAM 2 case: frames followed one after another. What a group prompts and how its model
// differs stands in the case's notes, a sentence for each group; a sentence that says more than is known here fails.

import type { Sam2Config } from "@consilium/shared/model/sam2.ts";
import { tf } from "../../site-agent/backend/tensors.ts";
import { sineImagePositions } from "../../site-agent/models/nn/sine-positions.ts";
import type { ImageFeatures } from "../../site-agent/models/sam2/image-encoder.ts";
import type { FrameMemory } from "../../site-agent/models/sam2/memory-bank.ts";
import type { FramePrompts, TrackedFrame } from "../../site-agent/models/sam2/track-frame.ts";
import { CaseError, type CaseFolder } from "./case-folder.ts";
import type { Comparison } from "./comparison.ts";
import { ObservedSam2 } from "./observed-sam2.ts";
import { readPrompts } from "./sam2-image-case.ts";
import { image, plain, stored, tokensFirst } from "./torch-order.ts";

export type TrackGroup = {
  readonly name: string;
  readonly prompt: { readonly kind: "points" | "mask"; readonly input: string };
  readonly reverse: boolean;
  readonly binarize: boolean;
  /** Of the case's frames, the first so many; null all. */
  readonly frameCount: number | null;
  /** Numbers in place of a tensor's own, which has one element. */
  readonly changed: ReadonlyMap<string, number>;
};

const PHRASES: readonly [RegExp, (found: RegExpExecArray, group: TrackGroup) => Partial<TrackGroup>][] = [
  [
    /(?:the first|the last|frame \d+|first|last)? ?(?:frame )?has the (?:click|clicks|points|box) of prompt\/(\w+)( \([^)]*\))?/,
    ([, input = ""]) => ({ prompt: { kind: "points", input } }),
  ],
  [
    /frame 0 has the mask (\S+)( \[[^\]]*\])?( \([^)]*\))?/,
    ([, input = ""]) => ({ prompt: { kind: "mask", input } }),
  ],
  [
    /with ([\w.]+) = (-?[\d.]+)( \([^)]*\))?/,
    ([, name = "", value = ""]) => ({ changed: new Map([[name, Number(value)]]) }),
  ],
  [/frames T-1\.\.0, track_in_reverse, click on the last frame/, () => ({ reverse: true })],
  [/binarize_mask_from_pts_for_mem_enc=true( \([^)]*\))?/, () => ({ binarize: true })],
  [
    /(one|two|three|four|five|six|seven|eight|\d+) frames/,
    ([, count = ""]) => ({ frameCount: numberOf(count) }),
  ],
  [/track_step on every frame/, () => ({})],
];

/** @throws CaseError where the sentence says something that is not understood */
export function readTrackGroup(name: string, notes: CaseFolder["notes"]): TrackGroup {
  const sentence = notes[`track/${name}`];
  if (typeof sentence !== "string") throw new CaseError(`no note says what track/${name} does`);
  const base = /^as track\/(\w+)/.exec(sentence);
  const start: TrackGroup = base?.[1]
    ? { ...readTrackGroup(base[1], notes), name }
    : {
        name,
        prompt: { kind: "points", input: "point1" },
        reverse: false,
        binarize: false,
        frameCount: null,
        changed: new Map(),
      };
  let rest = sentence.replace(/^as track\/\w+/, "");
  let group = start;
  for (const [phrase, change] of PHRASES) {
    const found = phrase.exec(rest);
    if (!found) continue;
    group = { ...group, ...change(found, group) };
    rest = rest.replace(found[0], "");
  }
  const left = rest.replaceAll(/\bbut\b|[\s,;.]/g, "");
  if (left !== "") throw new CaseError(`the note of track/${name} is not understood: ${left}`);
  return group;
}

const NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight"];

/** In words or digits. */
export function numberOf(text: string): number {
  const word = NUMBERS.indexOf(text);
  return word >= 0 ? word : Number(text);
}

type Clip = {
  readonly folder: CaseFolder;
  readonly comparison: Comparison;
  readonly features: readonly ImageFeatures[];
};

/** Follow a group through all frames that the case holds of it. */
export function compareTrack(model: ObservedSam2, group: TrackGroup, clip: Clip): void {
  const { folder, comparison } = clip;
  const features = clip.features.slice(0, group.frameCount ?? storedFrameCount(group.name, comparison));
  const changed = changedModel(model, group, folder);
  const bank = { conditioning: new Map<number, FrameMemory>(), tracked: new Map<number, FrameMemory>() };
  const answers: TrackedFrame[] = [];
  const order = features.map((_, time) => time);
  if (group.reverse) order.reverse();
  for (const [index, frame] of order.entries()) {
    const name = `track/${group.name}/frame${frame}`;
    if (!comparison.wantsUnder(`track/${group.name}`)) break;
    const input = {
      frame,
      frameCount: features.length,
      reverse: group.reverse,
      training: false,
      features: features[frame] as ImageFeatures, // One for every frame.
      prompts: index === 0 ? framePrompts(group, folder) : {},
      isFirst: index === 0,
      bank,
    };
    const answer = changed.observing(memoryObserver(name, comparison), () => changed.sam2.track(input));
    answers.push(answer);
    (index === 0 ? bank.conditioning : bank.tracked).set(frame, answer.memory);
    compareAnswer(name, answer, { config: changed.sam2.config, comparison });
  }
  tf.dispose(answers);
  if (changed !== model) changed.sam2.dispose();
}

function framePrompts({ prompt }: TrackGroup, folder: CaseFolder): FramePrompts {
  if (prompt.kind === "points") {
    const { points } = readPrompts(folder, prompt.input);
    if (!points) throw new CaseError(`the inputs hold no points prompt/${prompt.input}`);
    return { points };
  }
  const mask = folder.inputs.get(prompt.input) ?? folder.inputs.get("track/mask_input");
  if (!mask) throw new CaseError(`the inputs hold no ${prompt.input}`);
  return { mask: stored<tf.Rank.R4>(mask) };
}

function changedModel(model: ObservedSam2, group: TrackGroup, folder: CaseFolder): ObservedSam2 {
  const { config } = model.sam2;
  if (group.changed.size === 0 && group.binarize === config.tracking.binarizePromptedMasks) return model;
  const weights = new Map(folder.weights);
  for (const [name, value] of group.changed) {
    if (weights.get(name)?.length !== 1) throw new CaseError(`${name} is no single number of the weights`);
    weights.set(name, Float32Array.of(value));
  }
  const tracking = {
    ...config.tracking,
    binarizePromptedMasks: group.binarize || config.tracking.binarizePromptedMasks,
  };
  return new ObservedSam2({ ...config, tracking }, weights);
}

function memoryObserver(name: string, comparison: Comparison): (part: string, value: tf.Tensor) => void {
  const attention = `${name}/memory_attention`;
  const encoder = `${name}/memory_encoder`;
  return (part, value) => {
    const offer = (to: string, find: () => ReturnType<typeof plain>) => comparison.offer(to, find);
    if (part === "memory_attention.memory") offer(`${attention}/in_memory`, () => tokensFirst(value));
    if (part === "memory_attention.memory_pos") offer(`${attention}/in_memory_pos`, () => tokensFirst(value));
    if (part === "memory_attention.num_obj_ptr_tokens")
      offer(`${attention}/num_obj_ptr_tokens`, () => plain(value));
    if (part === "memory_attention.norm") offer(`${attention}/out`, () => tokensFirst(value));
    const layer = /^memory_attention\.layers\.(\d+)$/.exec(part)?.[1];
    if (layer) offer(`${attention}/layer${layer}`, () => plain(value));
    if (part === "memory_encoder.mask_downsampler") offer(`${encoder}/mask_downsampled`, () => image(value));
    if (part === "memory_encoder.pix_feat_proj") offer(`${encoder}/pix_feat_proj`, () => image(value));
    const block = /^memory_encoder\.fuser\.layers\.(\d+)$/.exec(part)?.[1];
    if (block) offer(`${encoder}/fuser${block}`, () => image(value));
  };
}

function compareAnswer(
  name: string,
  answer: TrackedFrame,
  { config, comparison }: { readonly config: Sam2Config; readonly comparison: Comparison },
): void {
  const { features, pointer } = answer.memory;
  const offer = (part: string, tensor: tf.Tensor) => comparison.offer(`${name}/${part}`, () => plain(tensor));
  offer("pred_masks", answer.lowMasks);
  offer("pred_masks_high_res", answer.highMasks);
  offer("object_score_logits", answer.objectScores);
  offer("obj_ptr", pointer);
  comparison.offer(`${name}/maskmem_features`, () => image(features));
  comparison.offer(`${name}/maskmem_pos_enc`, () => {
    const [, height, width, channels] = features.shape;
    const temperature = config.memoryEncoder.positionTemperature;
    const sines = sineImagePositions({ height, width, channels, temperature });
    const positions = tf.tensor4d(sines, [1, height, width, channels]);
    return image(tf.tile(positions, [features.shape[0], 1, 1, 1]));
  });
}

/** A group was made with the frames that it holds something of. */
function storedFrameCount(name: string, comparison: Comparison): number {
  const frames = comparison
    .openUnder(`track/${name}`)
    .map((rest) => Number(/^frame(\d+)\//.exec(rest)?.[1] ?? -1));
  return Math.max(...frames) + 1;
}
