// `consilium-site start-model`: the weights that a study of RFMedSAM 2 starts from, put together from a checkpoint of
// SAM 2.1, a prompter that a study has trained before, and a seed for what is left. The operator hands the file to
// `consilium study open --start`.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { writeTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";
import { parseRfmedsam2Config, sam2Of } from "@consilium/shared/model/rfmedsam2.ts";
import { partWeights, type Rfmedsam2Part } from "@consilium/shared/model/rfmedsam2-parameters.ts";
import { sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { openCheckpoint } from "../checkpoint/open-checkpoint.ts";
import type { ExitReason } from "../exit-codes.ts";
import { openModelFile } from "../model-file.ts";
import { replaceFile } from "../store/durable-file.ts";
import { expectRecipe } from "../work/checked-documents.ts";
import { StudyError } from "../work/study-error.ts";
import { canonicalDigest, weightTensors } from "../work/weights-file.ts";
import { type CommandContext, present } from "./command-context.ts";
import { readPlanFile } from "./plan-file.ts";
import { UsageError } from "./usage-error.ts";

export type StartModelOptions = {
  readonly plan: string;
  /** A checkpoint of SAM 2.1. */
  readonly checkpoint?: string;
  /** A model file of `unet-prompter`, or of `rfmedsam2`. */
  readonly prompter?: string;
  /** A model file of `rfmedsam2`. */
  readonly adapters?: string;
  readonly seed: number;
  readonly out: string;
};

export async function writeStartModel(
  options: StartModelOptions,
  context: CommandContext,
): Promise<ExitReason> {
  const { seed, out } = options;
  const plan = await readPlanFile(options.plan);
  if (plan.recipe.id !== "rfmedsam2") throw new StudyError("plan.unsuitable");
  const architecture = expectRecipe(plan);
  const weights = new Map(architecture.initialWeights(plan.recipe.config, seed));
  const sources: Record<Rfmedsam2Part, string> = { prompter: "seed", sam2: "seed", adapters: "seed" };
  if (options.checkpoint !== undefined) sources.sam2 = await takeSam2(options.checkpoint, plan, weights);
  for (const part of ["prompter", "adapters"] as const) {
    const file = options[part];
    if (file !== undefined) sources[part] = await takePart(part, file, weights);
  }
  const tensors = weightTensors(weights, architecture.parameters(plan.recipe.config));
  await replaceFile(out, writeTensorBundle(tensors)).catch((cause: unknown) => {
    throw new UsageError("usage.output", { cause });
  });
  const { sha256, bytes } = canonicalDigest(tensors);
  const lines = Object.entries(sources).map(([part, source]) => `${part.padEnd(10)}${source}`);
  present(context, { sha256, bytes, seed, sources }, [
    ...lines,
    `Written: ${bytes} bytes, SHA-256 ${sha256}.`,
  ]);
  return "done";
}

type Weights = Map<string, Float32Array>;

/** @throws CheckpointError, CheckpointMismatch */
async function takeSam2(path: string, plan: StudyPlan, weights: Weights): Promise<string> {
  const expected = sam2Parameters(sam2Of(parseRfmedsam2Config(plan.recipe.config)));
  const { tensors, description, close } = await openCheckpoint(path, { expected });
  try {
    for (const { name } of expected)
      weights.set(`sam2.${name}`, expectDefined(tensors.get(name), name).read());
  } finally {
    close();
  }
  return description;
}

/** @throws ModelFileError; StudyError `weights.other` where the model's part is another than the plan's */
async function takePart(part: "prompter" | "adapters", path: string, weights: Weights): Promise<string> {
  const model = await openModelFile(path, null);
  const own = model.plan.recipe.id === "unet-prompter" ? model.weights : partWeights(model.weights, part);
  const wanted = [...partWeights(weights, part)];
  for (const [name, values] of wanted) {
    const found = own.get(name);
    if (found?.length !== values.length) throw new StudyError("weights.other");
    weights.set(`${part}.${name}`, found);
  }
  return `version ${model.version}`;
}
