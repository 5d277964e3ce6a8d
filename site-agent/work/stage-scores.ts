// Every stage of a recipe's answer on the labelled cases of a folder, each with what it was allowed to know: an automatic
// answer, one prompted with the truth, which is an upper limit, or a baseline without a model.

import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { CaseId, StudySource } from "../data/study-source.ts";
import { type Labelmap, makeLabelmap, type Volume } from "../data/volume.ts";
import type { StagePredictor, StageTally } from "../recipes/recipe.ts";
import { withLargestParts } from "../refinement/largest-organ-part.ts";
import { type FolderScoring, type StagedPredictor, scoreStages } from "./score-folder.ts";
import type { CaseScores } from "./score-version.ts";
import { stageMaps } from "./segmenter.ts";

export type StageScores = {
  readonly stage: string;
  /** Prompts from the truth make an upper limit, which is never an automatic result. */
  readonly kind: "automatic" | "upper limit, prompted with the truth" | "baseline without a model";
  readonly scores: readonly CaseScores[];
  /** Objects that the stage was asked for, and the share whose mask took the place of the prompter's. */
  readonly objects: {
    readonly asked: number;
    readonly replaced: number;
    readonly shareReplaced: number;
  } | null;
};

export type StageScoring = Omit<FolderScoring<never>, "plan" | "predict"> & {
  readonly plan: StudyPlan;
  readonly source: StudySource;
  readonly cases: readonly CaseId[];
  readonly predict: StagePredictor;
};

/** Stage 2 whose organs keep their largest part alone. */
const LARGEST_PARTS = "stage-2-largest-parts";

export async function stageScores({ predict, ...scoring }: StageScoring): Promise<StageScores[]> {
  const counts = new Map<string, { asked: number; replaced: number }>();
  const tally: StageTally = (stage, isReplaced) => {
    const { asked, replaced } = counts.get(stage) ?? { asked: 0, replaced: 0 };
    counts.set(stage, { asked: asked + 1, replaced: replaced + Number(isReplaced) });
  };
  const staged: StagedPredictor = (volume, truth) =>
    predictStages({ volume, truth, plan: scoring.plan }, predict, tally);
  const scored = await scoreStages({ ...scoring, predict: staged });
  return [...scored].map(([stage, scores]) => {
    const count = counts.get(stage);
    const objects = count ? { ...count, shareReplaced: count.replaced / count.asked } : null;
    return { stage, kind: kindOf(stage), scores, objects };
  });
}

function kindOf(stage: string): StageScores["kind"] {
  if (stage.startsWith("filled-")) return "baseline without a model";
  return stage.startsWith("truth-") ? "upper limit, prompted with the truth" : "automatic";
}

async function predictStages(
  labelled: { readonly volume: Volume; readonly truth: Labelmap; readonly plan: StudyPlan },
  predict: StagePredictor,
  tally: StageTally,
): Promise<Map<string, Labelmap>> {
  const maps = await stageMaps(labelled, predict, tally);
  const second = maps.get("stage-2");
  if (second) maps.set(LARGEST_PARTS, largestParts(second));
  return maps;
}

function largestParts({ grid, voxels }: Labelmap): Labelmap {
  const [width, height, depth] = grid.shape;
  return makeLabelmap(grid, withLargestParts(voxels, { depth, height, width }));
}
