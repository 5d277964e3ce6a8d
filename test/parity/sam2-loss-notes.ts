// The losses of a SAM 2 case as its notes tell them, a sentence each. Numbers are read from the sentence; a sentence of
// another form fails.

import { type MaskLossSettings, OFFICIAL_MASK_LOSS } from "../../site-agent/models/sam2/mask-losses.ts";
import { CaseError, type CaseFolder } from "./case-folder.ts";
import { numberOf } from "./sam2-track-case.ts";

export type DiceEntropySettings = {
  readonly diceWeight: number;
  readonly entropyWeight: number;
  readonly smoothAbove: number;
  readonly smoothBelow: number;
  readonly divisor: number;
};

export type ImageLoss = DiceEntropySettings & { readonly prompt: string; readonly target: string };
export type VideoLoss = DiceEntropySettings & {
  readonly frameCount: number;
  readonly targets: readonly string[];
};

const NUMBER = String.raw`([\d.]+(?:e-?\d+)?)`;
const FACTOR = String.raw`(?:${NUMBER}\s?\*\s?)?`;
const IMAGE = new RegExp(
  String.raw`^loss = ${FACTOR}dice \+ ${FACTOR}bce; dice = 1-\(2\*sum\(p\*g\)\+${NUMBER}\)\/\(sum\(p\)\+sum\(g\)\+${NUMBER}\), ` +
    String.raw`bce = mean BCE with logits; image: single-mask logits \(multimask0\) of prompt (\w+) against (\S+?), ` +
    String.raw`z divided by ${NUMBER} first(?: \([^)]*\))?$`,
);
const VIDEO = new RegExp(
  String.raw`^(\w+) track_step frames \(click on frame 0\); sum of dice\+bce of pred_masks(?:\/${NUMBER})? against ([\w, ]+); ` +
    String.raw`eval mode \(no dropout\)$`,
);

/** @throws CaseError where the sentence has another form */
export function readImageLoss({ notes }: CaseFolder): ImageLoss {
  const found = IMAGE.exec(String(notes["train/dice_bce"] ?? ""));
  if (!found) throw new CaseError("the note train/dice_bce is missing or not understood");
  const [, dice = "1", bce = "1", above, below, prompt = "", target = "", divisor] = found;
  return {
    diceWeight: Number(dice),
    entropyWeight: Number(bce),
    smoothAbove: Number(above),
    smoothBelow: Number(below),
    divisor: Number(divisor),
    prompt,
    target,
  };
}

/** @throws CaseError where the sentence has another form */
export function readVideoLoss(folder: CaseFolder): VideoLoss {
  const found = VIDEO.exec(String(folder.notes["train/video"] ?? ""));
  if (!found) throw new CaseError("the note train/video is missing or not understood");
  const [, count = "", divisor = "1", targets = ""] = found;
  const names = targets.split(",").map((name) => `train/${name.trim()}`);
  const frameCount = numberOf(count);
  if (frameCount !== names.length)
    throw new CaseError("the note train/video names another number of targets");
  return { ...readImageLoss(folder), divisor: Number(divisor), frameCount, targets: names };
}

const OFFICIAL = /^training\.loss_fns\.MultiStepMultiMasksAndIous, (.*)$/;

/** @throws CaseError where the sentence names a setting that is not known */
export function readOfficialLoss({ notes }: CaseFolder): MaskLossSettings {
  const told = OFFICIAL.exec(String(notes["train/official"] ?? ""))?.[1];
  if (!told) throw new CaseError("the note train/official is missing or not understood");
  const start = {
    ...OFFICIAL_MASK_LOSS,
    superviseAllIous: false,
    absoluteIouError: false,
    scoreObjects: false,
  };
  const words = told
    .replaceAll(/\([^)]*\)/g, "")
    .split(",")
    .map((word) => word.trim());
  const settings: MaskLossSettings = Object.assign({}, start, ...words.map(setting));
  const missing = ["one step", "multimask output"].filter((word) => !words.includes(word));
  if (missing.length > 0) throw new CaseError(`the note train/official does not say: ${missing.join(", ")}`);
  return settings;
}

function setting(word: string): Partial<MaskLossSettings> {
  const weights = new RegExp(`^weights ${NUMBER}/${NUMBER}/${NUMBER}/${NUMBER}$`)
    .exec(word)
    ?.slice(1)
    .map(Number);
  if (weights) {
    const [mask = 0, dice = 0, iou = 0, object = 0] = weights;
    return { weights: { mask, dice, iou, object } };
  }
  const [, name = "", value] = /^(\w+)(?:[ =](-?[\w.]+))?$/.exec(word) ?? [];
  const isOn = value === undefined || /^true$/i.test(value);
  if (word === "one step" || word === "multimask output" || word === "") return {};
  if (name === "supervise_all_iou") return { superviseAllIous: isOn };
  if (name === "iou_use_l1_loss") return { absoluteIouError: isOn };
  if (name === "pred_obj_scores") return { scoreObjects: isOn };
  if (name === "focal_gamma_obj_score") return { objectGamma: Number(value) };
  if (name === "focal_alpha_obj_score") return { objectAlpha: Number(value) };
  if (name === "focal_alpha") return { focalAlpha: Number(value) };
  if (name === "focal_gamma") return { focalGamma: Number(value) };
  throw new CaseError(`the note train/official is not understood: ${word}`);
}
