// `consilium-site evaluate`: a model file on the labelled cases of a folder, with no coordinator; beside it, if asked
// for, the voxel-wise atlas of training cases, which a trained network has to beat.

import type { CaseId } from "../data/study-source.ts";
import { predictVolume } from "../evaluation/predict-volume.ts";
import type { ExitReason } from "../exit-codes.ts";
import { openModelFile, readTrustedKeys } from "../model-file.ts";
import { atlasPredictor } from "../work/atlas-baseline.ts";
import { scoreFolder } from "../work/score-folder.ts";
import { segmenterOf } from "../work/segmenter.ts";
import { type SelectedCases, selectCases } from "../work/site-cohort.ts";
import { StudyError } from "../work/study-error.ts";
import { type BackendStarter, backendLines } from "./backend-choice.ts";
import { type CommandContext, present } from "./command-context.ts";
import { dataSelection } from "./data-selection.ts";
import { type ScoreTable, scoreLines, scoreTable } from "./score-table.ts";

export type EvaluateOptions = {
  readonly model: string;
  readonly data: string;
  /** `all` for every labelled case, else which cases validate. */
  readonly split: string;
  readonly keys?: string;
  readonly mirror: boolean;
  readonly baseline?: "atlas";
  /** Where the atlas's cases are; the training part of the split where it is absent. */
  readonly trainData?: string;
};

export async function evaluateModel(
  options: EvaluateOptions,
  startBackend: BackendStarter,
  context: CommandContext,
): Promise<ExitReason> {
  const { keys, mirror } = options;
  const model = await openModelFile(options.model, keys === undefined ? null : await readTrustedKeys(keys));
  const selected = await selection(options);
  if (selected.validation.length === 0) throw new StudyError("cohort.empty");
  const backend = await startBackend();
  for (const line of backendLines(backend)) context.remark(line);
  const { plan } = model;
  const onCase = (done: number, total: number): void => context.remark(`case ${done} of ${total}`);
  const { source, validation: cases } = selected;
  const segmenter = segmenterOf(plan, model.weights, { mirror });
  const scored = await scoreFolder({
    ...{ plan, source, cases, onCase },
    predict: (volume) => predictVolume(volume, segmenter),
  }).finally(() => segmenter.dispose());
  const table = scoreTable(scored, plan);
  const baseline = options.baseline === "atlas" ? await atlasTable(options, selected, model.plan) : null;
  const result = {
    version: model.version,
    signer: model.signer,
    backend: backend.statement.name,
    ...table,
    baseline,
  };
  present(context, result, [
    ...scoreLines(plan.study, table),
    ...(baseline ? ["", ...scoreLines(`atlas of ${baseline.trainingCases} cases`, baseline)] : []),
  ]);
  return "done";
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
