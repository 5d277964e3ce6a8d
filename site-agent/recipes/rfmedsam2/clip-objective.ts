// The loss of RFMedSAM 2's adapters over clips of consecutive slices. The prompter says what it sees, prompts are
// simulated from it and from the labels, and the asked slices are differentiated in both stages, no more at a time than
// the model looks at together, so that memory does not grow with the clip. With a prompter in training its loss is added.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { chunks } from "@consilium/shared/base/chunks.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { disposeOnError } from "../../backend/dispose-on-error.ts";
import { tf } from "../../backend/tensors.ts";
import type { MaskLossSettings, MaskPrediction } from "../../models/sam2/mask-losses.ts";
import type { FrameMemory } from "../../models/sam2/memory-bank.ts";
import type { FrameAnswer } from "../../models/sam2/track-frame.ts";
import { coveredShares } from "../../prompts/covered-shares.ts";
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
import { batchesOf, ClipPort } from "./clip-port.ts";
import { type ClipQuestion, clipQuestions } from "./clip-questions.ts";
import { featuresOfSlices, type Rfmedsam2, type SliceQuestion } from "./model.ts";
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
    const asked = bySlice(questions);
    for (const slices of chunks([...asked.keys()], model.atOnce)) {
      const own = slices.map((slice) => ({
        image: expectDefined(clip[slice], "slice of the clip"),
        questions: asked.get(slice) ?? [],
      }));
      sum.add(() => askedLoss(model, own, { truth, count: questions.length, sliceCount: clip.length }));
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

type AskedSlice = { readonly image: TrainingSlice; readonly questions: readonly ClipQuestion<FrameMemory>[] };
type StageQuestion = SliceQuestion & { readonly of: ClipQuestion<FrameMemory> };

/** Both stages of all questions about some slices, which are encoded once; each question counts the same. */
function askedLoss(
  model: Rfmedsam2,
  slices: readonly AskedSlice[],
  { truth, count, sliceCount }: { readonly truth: TruthStack; count: number; sliceCount: number },
): tf.Scalar {
  const encoded = featuresOfSlices(model.encode(slices.map(({ image }) => image)), slices.length);
  const all = slices.flatMap(({ questions }, index) =>
    questions.map((of) => ({ of, features: expectDefined(encoded[index], "features of a slice") })),
  );
  const first = all.flatMap(({ of, features }): StageQuestion[] =>
    of.first === null ? [] : [{ of, features, prompt: of.first, memories: [] }],
  );
  const second = all.flatMap(({ of, features }): StageQuestion[] =>
    of.memories.length === 0 ? [] : [{ of, features, prompt: of.second, memories: of.memories }],
  );
  const { stages } = model.config.loss;
  const losses = [first, second].flatMap((questions, stage) =>
    batchesOf(questions, model.atOnce).map((batch) => {
      const answer = prediction(model.answer(batch, sliceCount));
      const target = {
        masks: targetMasks(
          truth,
          batch.map(({ of }) => of),
          model,
        ),
        contoured: batch.map(() => true),
      };
      const settings = { masks: lossSettings(model), stageWeights: [stages[stage] ?? 0] };
      return tf.mul(promptableLoss([answer], target, settings).total, batch.length / count);
    }),
  );
  return tf.addN(losses) as tf.Scalar; // A sum of scalars.
}

function lossSettings({ config: { loss } }: Rfmedsam2): MaskLossSettings {
  const { mask, dice, iou, object } = loss;
  return { ...ADAPTER_LOSS.masks, weights: { mask, dice, iou, object } };
}

/** Masks on the decoder's grid, and what they would be if the object counted as there. */
function prediction({ bareMasks, ious, objectScores }: FrameAnswer): MaskPrediction {
  return { candidates: bareMasks, ious, objectScores };
}

/** What each cell of the decoder's grid covers of the drawn organ: [questions, grid, grid]. */
function targetMasks(
  truth: TruthStack,
  questions: readonly ClipQuestion<FrameMemory>[],
  { sizes: { image, maskGrid } }: Rfmedsam2,
): tf.Tensor3D {
  const cells = maskGrid.height * maskGrid.width;
  const shares = new Float32Array(questions.length * cells);
  questions.forEach(({ classIndex, slice }, index) => {
    const mask = Float32Array.from(classMask(truth.classes, truth, { classIndex, slice }));
    const large = resizedPlane(mask, truth, image).map((value) => (value >= 0.5 ? 1 : 0));
    shares.set(coveredShares(large, image, maskGrid), index * cells);
  });
  return disposeOnError(() => tf.tensor3d(shares, [questions.length, maskGrid.height, maskGrid.width]));
}
