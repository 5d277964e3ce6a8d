// `consilium-site start-model`: the weights that a study of RFMedSAM 2 starts from, put together from a checkpoint of
// SAM 2.1, a prompter that a study has trained before, and a seed for what is left, and beside them a document that says
// so of each part. The operator hands both to `consilium study open --start`.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { modelVersionId } from "@consilium/shared/base/brand.ts";
import { writeTensorBundle } from "@consilium/shared/encoding/tensor-bundle.ts";
import { recipeParts } from "@consilium/shared/model/recipe-parts.ts";
import { parseRfmedsam2Config, sam2Of } from "@consilium/shared/model/rfmedsam2.ts";
import { partWeights, type Rfmedsam2Part } from "@consilium/shared/model/rfmedsam2-parameters.ts";
import { sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { type Provenance, provenanceFile } from "@consilium/shared/protocol/version-parts.ts";
import { openCheckpoint } from "../checkpoint/open-checkpoint.ts";
import type { ExitReason } from "../exit-codes.ts";
import { openModelFile } from "../model-file.ts";
import { PRETRAINED_MICRO_FILE } from "../pretraining/pretrained-checkpoint.ts";
import { replaceFile } from "../store/durable-file.ts";
import { expectRecipe } from "../work/checked-documents.ts";
import { StudyError } from "../work/study-error.ts";
import { canonicalDigest, weightTensors } from "../work/weights-file.ts";
import { type CommandContext, present } from "./command-context.ts";
import { readPlanFile } from "./plan-file.ts";
import { UsageError } from "./usage-error.ts";

export type StartModelOptions = {
  readonly plan: string;
  /** A checkpoint of SAM 2.1, or `none`; without it the one that comes with this project, where the plan has its size. */
  readonly checkpoint?: string;
  /** A model file of `unet-prompter`, or of `rfmedsam2`. */
  readonly prompter?: string;
  /** A model file of `rfmedsam2`. */
  readonly adapters?: string;
  readonly seed: number;
  /** Who answers for what the provenance says; kept in the federation's log. */
  readonly by: string;
  readonly out: string;
};

type Origin = Provenance["parts"][number]["origin"];
type Source = { readonly words: string; readonly origin: Origin };

export async function writeStartModel(
  options: StartModelOptions,
  context: CommandContext,
): Promise<ExitReason> {
  const { seed, by, out } = options;
  const plan = await readPlanFile(options.plan);
  if (plan.recipe.id !== "rfmedsam2") throw new StudyError("plan.unsuitable");
  const architecture = expectRecipe(plan);
  const weights = new Map(architecture.initialWeights(plan.recipe.config, seed));
  const drawn: Source = { words: "seed", origin: { kind: "seeded", seed } };
  const sources: Record<Rfmedsam2Part, Source> = { prompter: drawn, sam2: drawn, adapters: drawn };
  const checkpoint = options.checkpoint ?? shippedCheckpoint(plan);
  if (checkpoint !== NO_CHECKPOINT) sources.sam2 = await takeSam2(checkpoint, plan, weights);
  for (const part of ["prompter", "adapters"] as const) {
    const file = options[part];
    if (file !== undefined) sources[part] = await takePart(part, file, weights);
  }
  const tensors = weightTensors(weights, architecture.parameters(plan.recipe.config));
  const { sha256, bytes } = canonicalDigest(tensors);
  const provenance: Provenance = {
    type: "consilium-provenance/v1",
    claimedBy: by,
    weights: { sha256, bytes },
    parts: recipeParts(architecture, plan.recipe.config).map(({ part, parameters }) => ({
      part,
      sha256: canonicalDigest(weightTensors(partWeights(weights, part), parameters)).sha256,
      origin: sources[part].origin,
    })),
  };
  await write(out, writeTensorBundle(tensors));
  await write(provenanceFile(out), new TextEncoder().encode(`${JSON.stringify(provenance, null, 2)}\n`));
  const words = Object.fromEntries(Object.entries(sources).map(([part, source]) => [part, source.words]));
  const lines = Object.entries(words).map(([part, source]) => `${part.padEnd(10)}${source}`);
  present(context, { sha256, bytes, seed, sources: words, provenance }, [
    ...lines,
    `Written: ${bytes} bytes, SHA-256 ${sha256}, and ${provenanceFile(out)}.`,
  ]);
  return "done";
}

async function write(file: string, bytes: Uint8Array): Promise<void> {
  await replaceFile(file, bytes).catch((cause: unknown) => {
    throw new UsageError("usage.output", { cause });
  });
}

const NO_CHECKPOINT = "none";

function shippedCheckpoint({ recipe }: StudyPlan): string {
  const { sam2 } = parseRfmedsam2Config(recipe.config);
  return "variant" in sam2 && sam2.variant === "pretrained-micro" ? PRETRAINED_MICRO_FILE : NO_CHECKPOINT;
}

type Weights = Map<string, Float32Array>;

/** @throws CheckpointError, CheckpointMismatch */
async function takeSam2(path: string, plan: StudyPlan, weights: Weights): Promise<Source> {
  const expected = sam2Parameters(sam2Of(parseRfmedsam2Config(plan.recipe.config)));
  const { tensors, description, identity, sha256, close } = await openCheckpoint(path, { expected });
  try {
    for (const { name } of expected)
      weights.set(`sam2.${name}`, expectDefined(tensors.get(name), name).read());
  } finally {
    close();
  }
  return { words: description, origin: { kind: "checkpoint", sha256, name: identity.published } };
}

/** @throws ModelFileError; StudyError `weights.other` where the model's part is another than the plan's */
async function takePart(part: "prompter" | "adapters", path: string, weights: Weights): Promise<Source> {
  const model = await openModelFile(path, null);
  const own = model.plan.recipe.id === "unet-prompter" ? model.weights : partWeights(model.weights, part);
  const wanted = [...partWeights(weights, part)];
  for (const [name, values] of wanted) {
    const found = own.get(name);
    if (found?.length !== values.length) throw new StudyError("weights.other");
    weights.set(`${part}.${name}`, found);
  }
  const { origin: log, study } = model.manifest;
  const version = modelVersionId(model.version);
  return { words: `version ${version}`, origin: { kind: "version", log, study, version } };
}
