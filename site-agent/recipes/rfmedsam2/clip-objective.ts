// The loss of RFMedSAM 2's adapters over clips of consecutive slices. The prompter says what it sees, prompts are
// simulated from it and from the labels, and the asked slices are differentiated in both stages, no more at a time than
// the model looks at together, so that little of memory grows with the clip. With a prompter in training its loss is added.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { tf } from "../../backend/tensors.ts";
import type { MaskLossSettings } from "../../models/sam2/mask-losses.ts";
import type { FrameMemory } from "../../models/sam2/memory-bank.ts";
import { coveredShares } from "../../prompts/covered-shares.ts";
import { simulatedClipPrompts } from "../../prompts/prompt-simulation.ts";
import { classMask } from "../../prompts/prompter-output.ts";
import { resizedPlane } from "../../prompts/resize-plane.ts";
import type { TruthStack } from "../../prompts/truth-prompts.ts";
import { ClipSampler } from "../../training/clip-sampler.ts";
import { GradientSum } from "../../training/gradient-sum.ts";
import { ADAPTER_LOSS } from "../../training/promptable-losses.ts";
import { type CompiledGradients, sliceGradients } from "../../training/slice-objective.ts";
import { classIndices, classTable, type TrainingSlice } from "../../training/training-slice.ts";
import type { Objective, TrainingMaterial } from "../recipe.ts";
import { type AskedSlice, addQuestions } from "./add-questions.ts";
import { ClipEncoding } from "./clip-encoding.ts";
import type { ClipGradients, QuestionTargets } from "./clip-gradients.ts";
import { ClipPort } from "./clip-port.ts";
import { type ClipQuestion, clipQuestions } from "./clip-questions.ts";
import type { Rfmedsam2 } from "./model.ts";
import { prompterOnClip } from "./prompter-clip.ts";
import { refinementPlanOf } from "./refinement-plan-of.ts";

export type ObjectiveGradients = {
  readonly adapters: ClipGradients;
  /** Where the prompter is trained with them. */
  readonly prompter: CompiledGradients;
};

/** @throws TrainingError where there is no slice, and with every batch for slices that do not fit */
export function clipObjective(
  model: Rfmedsam2,
  { adapters: gradients, prompter }: ObjectiveGradients,
  material: TrainingMaterial,
): Objective {
  const { cases, labels, batchSize, seed, view } = material;
  const sampler = new ClipSampler(cases, model.config.clip.slices, Prng.labelled(seed, "clips"));
  const augmentation = Prng.labelled(seed, "augmentation");
  const prng = Prng.labelled(seed, "prompts");
  return async () => {
    const clips = sampler.draw(batchSize).map((clip) => view(clip, augmentation));
    const sum = new GradientSum(model.refinerTensors());
    try {
      for (const clip of clips) await addClip(sum, clip, { model, gradients, labels, prng });
      const adapters = sum.finish(1 / clips.length);
      if (model.config.trains === "adapters") return adapters;
      const first = sliceGradients(clips.flat(), labels, prompter.differentiate);
      const value = tf.tidy(() => tf.add(first.value, adapters.value)) as tf.Scalar; // A sum of scalars.
      tf.dispose([first.value, adapters.value]);
      return { value, grads: [...first.grads, ...adapters.grads] };
    } finally {
      sum.dispose();
    }
  };
}

type ClipOptions = {
  readonly model: Rfmedsam2;
  readonly gradients: ClipGradients;
  readonly labels: readonly number[];
  readonly prng: Prng;
};

/** The mean over the clip's questions; nothing where no organ is asked for. */
async function addClip(
  sum: GradientSum,
  clip: readonly TrainingSlice[],
  { model, gradients, labels, prng }: ClipOptions,
): Promise<void> {
  const truth = truthOf(clip, labels);
  const contoured = clip[0]?.contoured ?? [];
  const drawnClasses = labels.flatMap((label, index) =>
    index > 0 && contoured.includes(label) ? [index] : [],
  );
  const { config, sizes } = model;
  const plan = refinementPlanOf(model);
  const prompter = await prompterOnClip(model.prompting, clip);
  const simulation = { model: sizes, policy: config.prompts, prng, rule: plan.prompter };
  const prompts = simulatedClipPrompts({ truth, prompter, drawnClasses }, simulation);
  const encoding = new ClipEncoding(model, gradients);
  const port = new ClipPort(model, clip, { encoder: encoding });
  const kept: FrameMemory[] = [];
  try {
    const { queries, objects } = config.clip;
    const keep = (memory: FrameMemory): void => void kept.push(memory);
    const asking = { model: port, size: truth, plan, prng, queries, objects, keep };
    const questions = await clipQuestions(prompts, asking);
    addQuestions(sum, stageQuestions(questions, config.loss.stages), {
      ...{ model, gradients, encoding, slices: clip, port },
      targetsOf: (asked) => targetsOf(asked, { truth, model, count: questions.length }),
    });
  } finally {
    port.dispose();
    encoding.dispose();
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

type StageQuestion = AskedSlice & { readonly classIndex: number; readonly weight: number };

/** Every question in both stages, as far as it has them. @param weights of the stages */
function stageQuestions(
  questions: readonly ClipQuestion<FrameMemory>[],
  weights: readonly number[],
): StageQuestion[] {
  const [first = 0, second = 0] = weights;
  return questions.flatMap(({ classIndex, slice, ...of }) => [
    ...(of.first === null ? [] : [{ classIndex, slice, weight: first, prompt: of.first, memories: [] }]),
    ...(of.memories.length === 0
      ? []
      : [{ classIndex, slice, weight: second, prompt: of.second, memories: of.memories }]),
  ]);
}

export function clipLossSettings({ config: { loss } }: Rfmedsam2): MaskLossSettings {
  const { mask, dice, iou, object } = loss;
  return { ...ADAPTER_LOSS, weights: { mask, dice, iou, object } };
}

type TargetOptions = { readonly truth: TruthStack; readonly model: Rfmedsam2; readonly count: number };

/** Every one of `count` questions counts the same in the loss, as its stage is weighed. */
function targetsOf(asked: readonly StageQuestion[], { truth, model, count }: TargetOptions): QuestionTargets {
  return { masks: targetMasks(truth, asked, model), counts: asked.map(({ weight }) => weight / count) };
}

/** What each cell of the decoder's grid covers of the drawn organ: [questions, grid, grid]. */
function targetMasks(
  truth: TruthStack,
  questions: readonly StageQuestion[],
  { sizes: { image, maskGrid } }: Rfmedsam2,
): Float32Array {
  const cells = maskGrid.height * maskGrid.width;
  const shares = new Float32Array(questions.length * cells);
  questions.forEach(({ classIndex, slice }, index) => {
    const mask = Float32Array.from(classMask(truth.classes, truth, { classIndex, slice }));
    const large = resizedPlane(mask, truth, image).map((value) => (value >= 0.5 ? 1 : 0));
    shares.set(coveredShares(large, image, maskGrid), index * cells);
  });
  return shares;
}
