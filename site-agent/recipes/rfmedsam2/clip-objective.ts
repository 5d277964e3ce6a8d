// The loss of RFMedSAM 2's adapters over clips of consecutive slices. The prompter says what it sees, prompts are
// simulated from it and from the labels, and every asked slice is differentiated by itself in both stages, so that memory
// is that of one slice. With a prompter in training its own loss is added.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { disposeOnError } from "../../backend/dispose-on-error.ts";
import { tf } from "../../backend/tensors.ts";
import { resizeMaps } from "../../models/nn/interpolate.ts";
import type { MaskPrediction } from "../../models/sam2/mask-losses.ts";
import type { FrameMemory } from "../../models/sam2/memory-bank.ts";
import type { TrackedFrame } from "../../models/sam2/track-frame.ts";
import { simulatedClipPrompts } from "../../prompts/prompt-simulation.ts";
import { classMask } from "../../prompts/prompter-output.ts";
import { resizedPlane } from "../../prompts/resize-plane.ts";
import type { TruthStack } from "../../prompts/truth-prompts.ts";
import { ClipSampler } from "../../training/clip-sampler.ts";
import { GradientSum } from "../../training/gradient-sum.ts";
import { deepSupervisionLoss } from "../../training/losses.ts";
import { ADAPTER_LOSS, promptableLoss } from "../../training/promptable-losses.ts";
import { sliceGradients } from "../../training/slice-objective.ts";
import { classIndices, classTable, type TrainingSlice } from "../../training/training-slice.ts";
import type { Objective, TrainingMaterial } from "../recipe.ts";
import { ClipPort } from "./clip-port.ts";
import { type ClipQuestion, clipQuestions } from "./clip-questions.ts";
import type { Rfmedsam2 } from "./model.ts";
import { prompterOnClip } from "./prompter-clip.ts";
import { refinementPlanOf } from "./refinement-plan-of.ts";

/** @throws TrainingError where there is no slice, and with every batch for slices that do not fit */
export function clipObjective(model: Rfmedsam2, material: TrainingMaterial): Objective {
  const { cases, labels, batchSize, seed, view } = material;
  const sampler = new ClipSampler(cases, model.config.clip.slices, Prng.labelled(seed, "clips"));
  const augmentation = Prng.labelled(seed, "augmentation");
  const prng = Prng.labelled(seed, "prompts");
  return async () => {
    const clips = sampler.draw(batchSize).map((clip) => view(clip, augmentation));
    const sum = new GradientSum(model.adapterTensors());
    try {
      for (const clip of clips) await addClip(sum, clip, { model, labels, prng });
      const adapters = sum.finish(1 / clips.length);
      if (model.config.trains === "adapters") return adapters;
      const prompter = { model: model.prompter, loss: deepSupervisionLoss };
      const first = sliceGradients(prompter, clips.flat(), labels);
      const value = tf.tidy(() => tf.add(first.value, adapters.value)) as tf.Scalar; // A sum of scalars.
      tf.dispose([first.value, adapters.value]);
      return { value, grads: [...first.grads, ...adapters.grads] };
    } finally {
      sum.dispose();
    }
  };
}

type ClipOptions = { readonly model: Rfmedsam2; readonly labels: readonly number[]; readonly prng: Prng };

/** The mean over the clip's questions; nothing where no organ is asked for. */
async function addClip(
  sum: GradientSum,
  clip: readonly TrainingSlice[],
  { model, labels, prng }: ClipOptions,
): Promise<void> {
  const truth = truthOf(clip, labels);
  const contoured = clip[0]?.contoured ?? [];
  const drawnClasses = labels.flatMap((label, index) =>
    index > 0 && contoured.includes(label) ? [index] : [],
  );
  const { config, sizes } = model;
  const plan = refinementPlanOf(model);
  const prompter = await prompterOnClip(model.prompter, clip);
  const simulation = { model: sizes, policy: config.prompts, prng, rule: plan.prompter };
  const prompts = simulatedClipPrompts({ truth, prompter, drawnClasses }, simulation);
  const port = new ClipPort(model, clip);
  const kept: FrameMemory[] = [];
  try {
    const { queries, objects } = config.clip;
    const keep = (memory: FrameMemory): void => void kept.push(memory);
    const asking = { model: port, size: truth, plan, prng, queries, objects, keep };
    const questions = await clipQuestions(prompts, asking);
    port.dispose(); // What is differentiated is computed again.
    const share = 1 / questions.length;
    for (const [slice, own] of bySlice(questions)) {
      const image = expectDefined(clip[slice], "slice of the clip");
      sum.add(() => sliceLoss({ model, image, sliceCount: clip.length }, own, { truth, share }));
    }
  } finally {
    port.dispose();
    for (const memory of kept) port.release(memory);
  }
}

function truthOf(clip: readonly TrainingSlice[], labels: readonly number[]): TruthStack {
  const { height, width } = expectDefined(clip[0], "a clip has a slice");
  const classes = new Uint8Array(clip.length * height * width);
  const table = classTable(labels);
  clip.forEach((slice, index) => {
    classes.set(classIndices(slice.labels, table), index * height * width);
  });
  return { depth: clip.length, height, width, classes };
}

function bySlice(questions: readonly ClipQuestion<FrameMemory>[]): Map<number, ClipQuestion<FrameMemory>[]> {
  const slices = new Map<number, ClipQuestion<FrameMemory>[]>();
  for (const question of questions)
    slices.set(question.slice, [...(slices.get(question.slice) ?? []), question]);
  return slices;
}

type AskedSlice = { readonly model: Rfmedsam2; readonly image: TrainingSlice; readonly sliceCount: number };

/** Both stages of all questions about one slice, whose image is encoded once. */
function sliceLoss(
  { model, image, sliceCount }: AskedSlice,
  questions: readonly ClipQuestion<FrameMemory>[],
  { truth, share }: { readonly truth: TruthStack; readonly share: number },
): tf.Scalar {
  const features = model.encode(image);
  const { loss } = model.config;
  const { mask, dice, iou, object } = loss;
  const masks = { ...ADAPTER_LOSS.masks, weights: { mask, dice, iou, object } };
  const losses = questions.map((question) => {
    const stages: MaskPrediction[] = [];
    const stageWeights: number[] = [];
    if (question.first !== null) {
      const asked = { features, prompt: question.first, memories: [], sliceCount };
      stages.push(prediction(model.ask(asked), model));
      stageWeights.push(loss.stages[0]);
    }
    if (question.memories.length > 0) {
      const asked = { features, prompt: question.second, memories: question.memories, sliceCount };
      stages.push(prediction(model.ask(asked), model));
      stageWeights.push(loss.stages[1]);
    }
    const target = { masks: targetMask(truth, question, model), contoured: [true] };
    return promptableLoss(stages, target, { masks, stageWeights }).total;
  });
  return tf.mul(tf.addN(losses), share) as tf.Scalar; // A sum of scalars.
}

/** Masks as large as the model's image, and what they would be if the object counted as there. */
function prediction({ bareMasks, ious, objectScores }: TrackedFrame, { sizes }: Rfmedsam2): MaskPrediction {
  const { height, width } = sizes.image;
  const [count, , rows, columns] = bareMasks.shape;
  const large = resizeMaps(tf.reshape(bareMasks, [count, rows, columns]), [height, width], "bilinear");
  return { candidates: tf.reshape(large, [count, 1, height, width]), ious, objectScores };
}

/** [1, S, S] */
function targetMask(
  truth: TruthStack,
  { classIndex, slice }: ClipQuestion<FrameMemory>,
  { sizes }: Rfmedsam2,
): tf.Tensor3D {
  const mask = Float32Array.from(classMask(truth.classes, truth, { classIndex, slice }));
  const large = resizedPlane(mask, truth, sizes.image).map((value) => (value >= 0.5 ? 1 : 0));
  return disposeOnError(() => tf.tensor3d(large, [1, sizes.image.height, sizes.image.width]));
}
