// `consilium-site evaluate`: model files on the labelled cases of a folder, with no coordinator; beside them, if asked
// for, the voxel-wise atlas of training cases, which a trained network has to beat.

import type { CaseId } from "../data/study-source.ts";
import type { Labelmap, Volume } from "../data/volume.ts";
import type { ExitReason } from "../exit-codes.ts";
import { openModelFile, readTrustedKeys } from "../model-file.ts";
import { PROMPT_SOURCES } from "../recipes/recipe.ts";
import { atlasPredictor } from "../work/atlas-baseline.ts";
import { scoreFolder } from "../work/score-folder.ts";
import { answerStage, segmenterOf, segmentVolume, stagesOf } from "../work/segmenter.ts";
import { type SelectedCases, selectCases } from "../work/site-cohort.ts";
import { type StageScores, stageScores } from "../work/stage-scores.ts";
import { StudyError } from "../work/study-error.ts";
import { type BackendStarter, backendLines } from "./backend-choice.ts";
import { type CommandContext, present } from "./command-context.ts";
import { dataSelection } from "./data-selection.ts";
import { type ScoreTable, scoreLines, scoreTable } from "./score-table.ts";

export type EvaluateOptions = {
  /** Model files; each is scored by the plan that it carries. */
  readonly model: readonly string[];
  readonly data: string;
  /** `all` for every labelled case, else which cases validate. */
  readonly split: string;
  readonly keys?: string;
  readonly mirror: boolean;
  /** Where answers have stages: which of them, or the model's answer alone. */
  readonly stages: "all" | "automatic" | "answer";
  readonly baseline?: "atlas";
  /** Where the atlas's cases are; the training part of the split where it is absent. */
  readonly trainData?: string;
};

type OpenedModel = Awaited<ReturnType<typeof openModelFile>> & { readonly file: string };
type StageTable = ScoreTable & Omit<StageScores, "scores">;
type ModelTable = ScoreTable &
  Pick<OpenedModel, "version" | "signer" | "file"> & { readonly stages?: readonly StageTable[] };

export async function evaluateModels(
  options: EvaluateOptions,
  startBackend: BackendStarter,
  context: CommandContext,
): Promise<ExitReason> {
  const models = await openModels(options);
  const selected = await selection(options);
  if (selected.validation.length === 0) throw new StudyError("cohort.empty");
  const backend = await startBackend();
  for (const line of backendLines(backend)) context.remark(line);
  const tables: ModelTable[] = [];
  for (const model of models) tables.push(await modelTable(model, selected, { options, context }));
  const [first] = models;
  const baseline =
    options.baseline === "atlas" && first ? await atlasTable(options, selected, first.plan) : null;
  const [only, ...others] = tables;
  const common = { backend: backend.statement.name, baseline };
  const result = others.length === 0 ? { ...only, ...common } : { ...common, models: tables };
  present(context, result, [
    ...tables.flatMap((table) => [
      ...scoreLines(table.version.slice(0, 12), table),
      "",
      ...stageLines(table),
    ]),
    ...(baseline ? scoreLines(`atlas of ${baseline.trainingCases} cases`, baseline) : []),
  ]);
  return "done";
}

async function openModels({ model: files, keys }: EvaluateOptions): Promise<OpenedModel[]> {
  const trusted = keys === undefined ? null : await readTrustedKeys(keys);
  const models: OpenedModel[] = [];
  for (const file of files) models.push({ ...(await openModelFile(file, trusted)), file });
  return models;
}

async function modelTable(
  { plan, weights, version, signer, file }: OpenedModel,
  { source, validation: cases }: SelectedCases,
  { options, context }: { options: EvaluateOptions; context: CommandContext },
): Promise<ModelTable> {
  const onCase = (done: number, total: number): void => context.remark(`case ${done} of ${total}`);
  const scoring = { plan, source, cases, onCase };
  const { mirror, stages: asked } = options;
  const which = asked === "all" ? PROMPT_SOURCES : "automatic";
  const staged = asked === "answer" ? null : stagesOf(plan, weights, { mirror, which });
  if (!staged) {
    const segmenter = segmenterOf(plan, weights, { mirror });
    const predict = (volume: Volume): Promise<Labelmap> => segmentVolume(volume, segmenter);
    const scored = await scoreFolder({ ...scoring, predict }).finally(() => segmenter.dispose());
    return { file, version, signer, ...scoreTable(scored, plan) };
  }
  const stages = await stageScores({ ...scoring, predict: staged.predict }).finally(() => staged.dispose());
  const tables = stages.map(({ scores, ...stage }) => ({ ...stage, ...scoreTable(scores, plan) }));
  const answer = stages.find(({ stage }) => stage === answerStage(plan));
  return { file, version, signer, ...scoreTable(answer?.scores ?? [], plan), stages: tables };
}

function stageLines({ stages = [] }: ModelTable): string[] {
  return stages.flatMap((table) => {
    const { stage, kind, objects } = table;
    const share = objects
      ? [`${(100 * objects.shareReplaced).toFixed(1)} % of ${objects.asked} objects replaced`]
      : [];
    return [`${stage}: ${kind}`, ...share, ...scoreLines("", table), ""];
  });
}

async function selection({ data, split }: EvaluateOptions): Promise<SelectedCases> {
  if (split !== "all") return selectCases(await dataSelection(data, split));
  const { source, training, validation } = await selectCases(await dataSelection(data, "last-fifth"));
  return { source, training: [], validation: [...training, ...validation] };
}

type AtlasTable = ScoreTable & { readonly trainingCases: number };

async function atlasTable(
  { trainData }: EvaluateOptions,
  selected: SelectedCases,
  plan: Parameters<typeof atlasPredictor>[0]["plan"],
): Promise<AtlasTable> {
  const training = trainData === undefined ? selected : await everyCase(trainData);
  if (training.training.length < 2) throw new StudyError("cohort.empty");
  const predict = await atlasPredictor({ plan, source: training.source, cases: training.training });
  const { source, validation: cases } = selected;
  const scored = await scoreFolder({ plan, source, cases, predict, onCase: () => {} });
  return { ...scoreTable(scored, plan), trainingCases: training.training.length };
}

async function everyCase(folder: string): Promise<SelectedCases> {
  const { source, training, validation } = await selectCases(await dataSelection(folder, "last-fifth"));
  const all: readonly CaseId[] = [...training, ...validation];
  return { source, training: all, validation: [] };
}
