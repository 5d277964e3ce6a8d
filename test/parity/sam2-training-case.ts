// The groups `train/...` and `grad/...` of a SAM 2 case: three losses, and the gradient of each with respect to every
// tensor of the model.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import { tf } from "../../site-agent/backend/tensors.ts";
import { singleMask } from "../../site-agent/models/sam2/mask-choice.ts";
import { crossEntropy, maskLosses } from "../../site-agent/models/sam2/mask-losses.ts";
import type { FrameMemory } from "../../site-agent/models/sam2/memory-bank.ts";
import { sam2Layout } from "../../site-agent/models/sam2/sam2-layout.ts";
import type { TrackedFrame } from "../../site-agent/models/sam2/track-frame.ts";
import { fromLayout } from "../../site-agent/models/tensor-layout.ts";
import { CaseError, type CaseFolder } from "./case-folder.ts";
import type { Comparison } from "./comparison.ts";
import type { ObservedSam2 } from "./observed-sam2.ts";
import { readPrompts } from "./sam2-image-case.ts";
import {
  type DiceEntropySettings,
  readImageLoss,
  readOfficialLoss,
  readVideoLoss,
} from "./sam2-loss-notes.ts";
import { plain, stored } from "./torch-order.ts";

type Training = {
  readonly model: ObservedSam2;
  readonly frames: readonly tf.Tensor4D[];
  readonly folder: CaseFolder;
  readonly comparison: Comparison;
};

const GROUPS: Readonly<Record<string, (training: Training) => tf.Tensor>> = {
  image: imageLoss,
  video: videoLoss,
  official: officialLoss,
};

/** Faults of one group leave the others alone. */
export function compareTraining(training: Training): void {
  const { comparison } = training;
  for (const [group, loss] of Object.entries(GROUPS)) {
    if (!comparison.wantsUnder(`train/${group}`) && !comparison.wantsUnder(`grad/${group}`)) continue;
    comparison.attempt(() => tf.tidy(() => compareGradients(group, training, () => loss(training))));
  }
}

function compareGradients(group: string, { model, comparison }: Training, loss: () => tf.Tensor): void {
  const { config, parameters } = model.sam2;
  const specs = sam2Parameters(config);
  if (!comparison.wantsUnder(`grad/${group}`)) {
    loss();
    return;
  }
  const tensors = specs.map(({ name }) => parameters.tensor(name));
  // Not every tensor takes part in every loss.
  const { grads } = tf.engine().gradients(() => loss() as tf.Scalar, tensors, undefined, true); // A sum of scalars.
  specs.forEach((spec, index) => {
    comparison.offer(`grad/${group}/${spec.name}`, () => {
      // The framework types leave out what it gives for tensors that do not take part.
      const gradient = grads[index] as tf.Tensor | undefined;
      const count = spec.shape.reduce((product, size) => product * size, 1);
      const values = gradient ? (gradient.dataSync() as Float32Array) : new Float32Array(count); // All are float32.
      return { shape: spec.shape, values: fromLayout(values, spec.shape, sam2Layout(spec)) };
    });
  });
}

function imageLoss({ model, frames, folder, comparison }: Training): tf.Tensor {
  const settings = readImageLoss(folder);
  const features = model.sam2.encode(expectDefined(frames[0], "first frame"));
  const decoded = model.sam2.segment(features, readPrompts(folder, settings.prompt));
  const masks = singleMask(decoded, null).masks;
  return diceAndEntropy(masks, {
    target: settings.target,
    name: "train/image",
    settings,
    folder,
    comparison,
  });
}

function videoLoss(training: Training): tf.Tensor {
  const { folder, comparison } = training;
  const settings = readVideoLoss(folder);
  const answers = track(training, settings.frameCount);
  const losses = answers.map(({ lowMasks }, frame) => {
    const target = expectDefined(settings.targets[frame], "target of a frame");
    return diceAndEntropy(lowMasks, {
      target,
      name: `train/video/frame${frame}`,
      settings,
      folder,
      comparison,
    });
  });
  return tf.addN(losses);
}

function officialLoss(training: Training): tf.Tensor {
  const { folder, comparison } = training;
  const [answer] = track(training, 1);
  const targets = targetOf(folder, "train/target_high");
  const losses = maskLosses(expectDefined(answer, "one frame"), targets, readOfficialLoss(folder));
  const names = {
    mask: "loss_mask",
    dice: "loss_dice",
    iou: "loss_iou",
    object: "loss_class",
    total: "core_loss",
  } as const;
  for (const [key, name] of Object.entries(names))
    comparison.offer(`train/official/${name}`, () => plain(losses[key as keyof typeof names])); // Its own keys.
  return losses.total;
}

/** Frames from the first on, which is clicked. */
function track({ model, frames, folder }: Training, count: number): TrackedFrame[] {
  const bank = { conditioning: new Map<number, FrameMemory>(), tracked: new Map<number, FrameMemory>() };
  const { points } = readPrompts(folder, "point1");
  if (!points || frames.length < count) throw new CaseError("training needs prompt/point1 and its frames");
  return frames.slice(0, count).map((image, frame) => {
    const answer = model.sam2.track({
      frame,
      frameCount: count,
      reverse: false,
      training: false,
      features: model.sam2.encode(image),
      prompts: frame === 0 ? { points } : {},
      isFirst: frame === 0,
      bank,
    });
    (frame === 0 ? bank.conditioning : bank.tracked).set(frame, answer.memory);
    return answer;
  });
}

type Supervised = {
  readonly target: string;
  readonly name: string;
  readonly settings: DiceEntropySettings;
  readonly folder: CaseFolder;
  readonly comparison: Comparison;
};

function diceAndEntropy(
  logits: tf.Tensor4D,
  { target, name, settings, folder, comparison }: Supervised,
): tf.Tensor {
  const truth = targetOf<tf.Rank.R4>(folder, target);
  const divided = tf.div(logits, settings.divisor);
  const share = tf.sigmoid(divided);
  // Over rows and then over their sums: one long sum in single precision is the largest error of all.
  const sum = (images: tf.Tensor) => tf.sum(tf.sum(images, -1));
  const common = tf.add(tf.mul(sum(tf.mul(share, truth)), 2), settings.smoothAbove);
  const dice = tf.sub(1, tf.div(common, tf.add(tf.add(sum(share), sum(truth)), settings.smoothBelow)));
  const entropy = tf.div(sum(crossEntropy(divided, truth)), logits.size);
  comparison.offer(`${name}/dice`, () => plain(dice));
  comparison.offer(`${name}/bce`, () => plain(entropy));
  return tf.add(tf.mul(dice, settings.diceWeight), tf.mul(entropy, settings.entropyWeight));
}

function targetOf<Rank extends tf.Rank = tf.Rank.R3>({ inputs }: CaseFolder, name: string): tf.Tensor<Rank> {
  const target = inputs.get(name);
  if (!target) throw new CaseError(`the inputs hold no ${name}`);
  return stored<Rank>(target);
}
