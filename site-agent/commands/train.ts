// `consilium-site train`: a site trains alone, with the very code of a round and no coordinator, for comparison with
// what the federation reaches. The result is a model file signed with a key made for this one file: it proves that the
// file is whole, not who made it.

import { readFile } from "node:fs/promises";
import { seal } from "@consilium/shared/crypto/envelope.ts";
import { generateSigningKey } from "@consilium/shared/crypto/keys.ts";
import { planDigest, type StudyPlan, StudyPlanDocument } from "@consilium/shared/model/study-plan.ts";
import { ModelVersionDocument, type ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import type { ExitReason } from "../exit-codes.ts";
import { writeModelFile } from "../model-file.ts";
import { normL2 } from "../privacy/protect.ts";
import { replaceFile } from "../store/durable-file.ts";
import { expectRecipe, versionDigest } from "../work/checked-documents.ts";
import { loadCohort } from "../work/site-cohort.ts";
import { StudyError } from "../work/study-error.ts";
import { runTraining, type TrainingOutcome } from "../work/training-run.ts";
import { canonicalDigest, readWeights, type WeightValues, weightTensors } from "../work/weights-file.ts";
import { type BackendStarter, backendLines } from "./backend-choice.ts";
import { type CommandContext, present } from "./command-context.ts";
import { systemClock } from "./connection.ts";
import { dataSelection } from "./data-selection.ts";
import { readPlanFile } from "./plan-file.ts";
import { UsageError } from "./usage-error.ts";

export type TrainOptions = {
  readonly plan: string;
  /** A weights file, a model file, or `seed:N`. */
  readonly start: string;
  readonly data: string;
  readonly split: string;
  readonly steps: number;
  readonly seed: number;
  readonly out: string;
};

const originOfLonelyModels = "consilium.local/trained-alone";
/** Lines of progress for people, at most. */
const progressLinesMax = 50;

export async function trainAlone(
  options: TrainOptions,
  startBackend: BackendStarter,
  context: CommandContext,
  signal: AbortSignal,
): Promise<ExitReason> {
  const plan = await readPlanFile(options.plan);
  const data = await dataSelection(options.data, options.split);
  const cohort = await loadCohort(data, plan, { bytesMax: context.config.preparedBytesMax });
  if (cohort.training.length === 0) throw new StudyError("cohort.empty");
  const base = await startWeights(options.start, plan);
  const backend = await startBackend();
  for (const line of backendLines(backend)) context.remark(line);
  const { steps, seed } = options;
  const startedAtMs = systemClock.nowMs();
  const every = Math.max(1, Math.ceil(steps / progressLinesMax));
  const outcome = await runTraining({
    ...{ plan, base, seed, steps, signal, cases: cohort.training },
    schedule: { stepsBefore: 0, stepsInAll: steps },
    onStep: (step, loss) => {
      if (step % every === 0 || step === steps)
        context.remark(`step ${step} of ${steps}, loss ${loss.toFixed(4)}`);
    },
    onWarning: ({ code, reason }) =>
      context.remark(`${code}: ${reason}. Training goes on one operation at a time.`),
  });
  const seconds = (systemClock.nowMs() - startedAtMs) / 1000;
  const version = await writeModel(options.out, plan, outcome);
  const norm = normL2([...outcome.delta.values()]);
  const { loss } = outcome;
  const cases = { training: cohort.training.length, validation: cohort.validation.length };
  present(
    context,
    { version, steps, seed, seconds, loss, deltaNormL2: norm, backend: backend.statement.name, ...cases },
    [
      `Trained ${steps} steps on ${cases.training} cases in ${seconds.toFixed(1)} s; loss ${loss.first.toFixed(4)} to ${loss.last.toFixed(4)}.`,
      `The weights moved by ${norm.toFixed(4)} (L2 norm).`,
    ],
  );
  return "done";
}

/** @throws UsageError, StudyError */
async function startWeights(start: string, plan: StudyPlan): Promise<WeightValues> {
  const architecture = expectRecipe(plan);
  if (start.startsWith("seed:")) {
    const seed = Number(start.slice("seed:".length));
    if (!Number.isInteger(seed) || seed < 0 || seed > 0xffffffff) throw new UsageError("usage.seed");
    return architecture.initialWeights(plan.recipe.config, seed);
  }
  const bytes = await readFile(start).catch((cause: unknown) => {
    throw new UsageError("usage.start", { cause });
  });
  return readWeights(bytes, architecture.parameters(plan.recipe.config));
}

async function writeModel(path: string, plan: StudyPlan, { weights }: TrainingOutcome): Promise<string> {
  const specs = expectRecipe(plan).parameters(plan.recipe.config);
  const tensors = weightTensors(weights, specs);
  const manifest: ModelVersionManifest = {
    origin: originOfLonelyModels,
    study: plan.study,
    plan: planDigest(plan),
    recipe: { id: plan.recipe.id, version: plan.recipe.version },
    parameterManifest: plan.parameterManifest,
    weights: canonicalDigest(tensors),
    from: { kind: "imported" },
  };
  const key = generateSigningKey();
  const documents = {
    version: seal(ModelVersionDocument, manifest, key),
    plan: seal(StudyPlanDocument, plan, key),
  };
  await replaceFile(path, writeModelFile(tensors, documents)).catch((cause: unknown) => {
    throw new UsageError("usage.output", { cause });
  });
  return versionDigest(manifest);
}
