// RFMedSAM 2 taken apart: what every stage answers for a volume whose labels are known, and what it would answer without
// the prompter's word, from boxes alone, or from prompts made of the labels themselves. The last are upper limits and no
// result; filled boxes say what a box is worth without any model.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import type { ObjectPrompt } from "../../prompts/object-prompt.ts";
import { filledBoxLabels } from "../../prompts/pixel-box.ts";
import { prompterPrompts } from "../../prompts/prompter-prompts.ts";
import { pixelsOf, type StackSize } from "../../prompts/slice-size.ts";
import { type TruthPromptKind, truthPrompt } from "../../prompts/truth-prompts.ts";
import type { AcceptanceRule, Arbiter } from "../../refinement/acceptance.ts";
import { mergedClip, refineClip, refineRuns } from "../../refinement/refine-clip.ts";
import type { RefinedObject } from "../../refinement/refine-objects.ts";
import { type StitchedSlice, Stitcher } from "../../refinement/stitching.ts";
import { classIndices, classTable } from "../../training/training-slice.ts";
import type { AskedStages, PredictionView, PromptSource, StagePredictor, StageTally } from "../recipe.ts";
import type { RefinedWindow } from "./clip-windows.ts";
import type { Rfmedsam2 } from "./model.ts";
import { classShares, windowsOf } from "./predictor.ts";
import { refinementPlanOf } from "./refinement-plan-of.ts";

/** Logits [classes, depth, height, width] of one window, by stage. */
type WindowAnswers = ReadonlyMap<string, Float32Array>;

export function rfmedsam2Stages(
  model: Rfmedsam2,
  view: PredictionView,
  { which, seed }: AskedStages,
): StagePredictor {
  return async function* stages(slices, tally) {
    const { height, width } = expectDefined(slices[0], "a volume has a slice");
    const classCount = view.labels.length;
    const volume = { depth: slices.length, height, width };
    const stitchers = new Map<string, Stitcher>();
    for await (const one of windowsOf(model, slices, view)) {
      const answers =
        which === "automatic"
          ? await automaticAnswers(model, one, tally)
          : await windowAnswers(model, one, { which, view, seed, tally });
      const finished = new Map<string, StitchedSlice[]>();
      for (const [stage, logits] of answers) {
        const stitcher = stitchers.get(stage) ?? new Stitcher(volume, classCount);
        stitchers.set(stage, stitcher);
        finished.set(stage, stitcher.add(one.window, logits));
      }
      yield* bySlice(finished, classCount);
    }
    yield* bySlice(
      new Map([...stitchers].map(([stage, stitcher]) => [stage, stitcher.finish()])),
      classCount,
    );
  };
}

function* bySlice(
  finished: ReadonlyMap<string, readonly StitchedSlice[]>,
  classCount: number,
): Generator<ReadonlyMap<string, Float32Array>> {
  const count = Math.max(0, ...[...finished.values()].map(({ length }) => length));
  for (let index = 0; index < count; index += 1) {
    const stages = [...finished].map(([stage, slices]) => {
      const { logits } = expectDefined(slices[index], "every stage answers every slice");
      return [stage, classShares(logits, classCount)] as const;
    });
    yield new Map(stages);
  }
}

type AnswerOptions = { readonly view: PredictionView; readonly seed: number; readonly tally: StageTally };

/** The prompter alone, and both stages after it. */
async function automaticAnswers(
  model: Rfmedsam2,
  one: RefinedWindow,
  tally: StageTally,
): Promise<WindowAnswers> {
  const { stageOne, stageTwo } = await refineClip(one.output, one.port, refinementPlanOf(model));
  const merge = merger(model, one, tally);
  return new Map([
    ["stage-0", prompterLogits(one)],
    ["stage-1", merge("stage-1", stageOne, { arbiter: "prompter" })],
    ["stage-2", merge("stage-2", stageTwo, { arbiter: "prompter" })],
  ]);
}

function prompterLogits({ output }: RefinedWindow): Float32Array {
  return output.probabilities.map((share) => Math.log(Math.max(share, SHARE_MIN)));
}

async function windowAnswers(
  model: Rfmedsam2,
  one: RefinedWindow,
  { which, ...options }: AnswerOptions & { readonly which: readonly PromptSource[] },
): Promise<WindowAnswers> {
  const { output, port } = one;
  const plan = refinementPlanOf(model);
  const asked = prompterPrompts(output, { model: port, rule: plan.prompter });
  const prompts = (source: PromptSource): ObjectPrompt[] => {
    if (source === "truth-boxes")
      return truthPrompts(model, one, {
        ...options,
        kind: { kind: "box", jitter: model.config.prompts.jitter },
      });
    if (source === "truth-points")
      return truthPrompts(model, one, {
        ...options,
        kind: { kind: "points", positiveCount: 1, negativeCount: 0 },
      });
    return asked;
  };
  const runs = which.map((source) => ({
    ...{ source, prompts: prompts(source) },
    plan: source === "prompter" ? plan : ({ ...plan, prompts: "boxes" } as const),
  }));
  const refined = await refineRuns(runs, port, output);
  const merge = merger(model, one, options.tally);
  const answers = new Map([
    ["stage-0", prompterLogits(one)],
    ["filled-prompter-boxes", filled(asked, output)],
  ]);
  runs.forEach(({ source, prompts: own }, index) => {
    const run = expectDefined(refined[index], "a run");
    for (const { name, of, ...judging } of STAGES[source]) answers.set(name, merge(name, run[of], judging));
    if (source === "truth-boxes") answers.set("filled-truth-boxes", filled(own, output));
  });
  return answers;
}

type Judging = { readonly arbiter: Arbiter; readonly accepted?: NonNullable<AcceptanceRule["accepted"]> };
type NamedStage = Judging & { readonly name: string; readonly of: keyof RefinedObject };

const STAGES: Readonly<Record<PromptSource, readonly NamedStage[]>> = {
  prompter: [
    { name: "stage-1", of: "stageOne", arbiter: "prompter" },
    { name: "stage-2", of: "stageTwo", arbiter: "prompter" },
    { name: "stage-2-averaged", of: "stageTwo", arbiter: "prompter", accepted: "averages" },
    { name: "stage-2-without-prompter-masks", of: "stageTwo", arbiter: "model" },
  ],
  "prompter-boxes": [
    { name: "stage-1-boxes-only", of: "stageOne", arbiter: "model" },
    { name: "stage-2-boxes-only", of: "stageTwo", arbiter: "model" },
  ],
  "truth-boxes": [
    { name: "truth-boxes-stage-1", of: "stageOne", arbiter: "model" },
    { name: "truth-boxes-stage-2", of: "stageTwo", arbiter: "model" },
  ],
  "truth-points": [
    { name: "truth-points-stage-1", of: "stageOne", arbiter: "model" },
    { name: "truth-points-stage-2", of: "stageTwo", arbiter: "model" },
  ],
};

/** Below this a probability's logarithm says nothing more. */
const SHARE_MIN = 1e-30;
/** Of a pixel within a filled box; outside, and of background, it is lower by as much. */
const FILLED_LOGIT = 10;

type Merge = (stage: string, results: RefinedObject["stageOne"], judging: Judging) => Float32Array;

function merger({ config, sizes }: Rfmedsam2, { output }: RefinedWindow, tally: StageTally): Merge {
  return (stage, results, { arbiter, ...rule }) => {
    const merging = { maskGrid: sizes.maskGrid, arbiter, acceptance: { ...config.refinement, ...rule } };
    const { logits, decisions } = mergedClip(results, output, merging);
    for (const { verdict } of decisions) tally(stage, verdict === "accepted");
    return logits;
  };
}

/** One prompt for every drawn object of the window, the same for the same seed. */
function truthPrompts(
  { sizes }: Rfmedsam2,
  { window, slices, output }: RefinedWindow,
  { view, seed, kind }: AnswerOptions & { readonly kind: TruthPromptKind },
): ObjectPrompt[] {
  const { depth, height, width, classCount } = output;
  const classes = new Uint8Array(depth * height * width);
  const table = classTable(view.labels);
  slices.forEach(({ labels }, slice) => {
    classes.set(classIndices(labels, table), slice * height * width);
  });
  const truth = { depth, height, width, classes };
  const prng = Prng.labelled(seed, `${kind.kind} at ${window.slice} ${window.row} ${window.column}`);
  const prompts: ObjectPrompt[] = [];
  for (let classIndex = 1; classIndex < classCount; classIndex += 1) {
    for (let slice = 0; slice < depth; slice += 1) {
      const prompt = truthPrompt(truth, { classIndex, slice }, { image: sizes.image, kind, prng });
      if (prompt) prompts.push(prompt);
    }
  }
  return prompts;
}

/** The prompts' boxes as logits [classes, depth, height, width]. */
function filled(
  prompts: readonly ObjectPrompt[],
  size: StackSize & { readonly classCount: number },
): Float32Array {
  const pixels = pixelsOf(size);
  const logits = new Float32Array(size.classCount * size.depth * pixels).fill(-FILLED_LOGIT);
  logits.fill(0, 0, size.depth * pixels);
  for (let slice = 0; slice < size.depth; slice += 1) {
    const boxes = prompts.flatMap(({ slice: own, classIndex, box }) =>
      own === slice && box ? [{ label: classIndex, box }] : [],
    );
    filledBoxLabels(boxes, size).forEach((classIndex, pixel) => {
      if (classIndex > 0) logits[(classIndex * size.depth + slice) * pixels + pixel] = FILLED_LOGIT;
    });
  }
  return logits;
}
