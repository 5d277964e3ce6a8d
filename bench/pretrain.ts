// `npm run pretrain -- [--minutes N] [--out FILE] [--resume FILE] [--start CHECKPOINT] [--seed N]`: trains the record
// `pretrained-micro` of SAM 2.1 on drawn volumes, from nothing or from a checkpoint, and writes a safetensors
// checkpoint. The state is saved in FILE.state, or in the file that is resumed, every now and then; what was started
// from a checkpoint is resumed with `--start` as well. `--evaluate FILE` prints how good a checkpoint is, as JSON.

import { readFile } from "node:fs/promises";
import { parseArgs } from "node:util";
import { sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import { sam2Variants } from "@consilium/shared/model/sam2-variants.ts";
import type { BackendReport } from "../site-agent/backend/backend-report.ts";
import { startBackend } from "../site-agent/backend/start-backend.ts";
import { openCheckpoint } from "../site-agent/checkpoint/open-checkpoint.ts";
import type { Weights } from "../site-agent/models/parameters.ts";
import { Sam2 } from "../site-agent/models/sam2/sam2.ts";
import { pretrainingStart } from "../site-agent/pretraining/initial-weights.ts";
import { writePretrainedCheckpoint } from "../site-agent/pretraining/pretrained-checkpoint.ts";
import {
  EVALUATION_PLAN,
  evaluateBoxes,
  evaluatePrompts,
  type PromptScores,
} from "../site-agent/pretraining/pretrained-evaluation.ts";
import { Pretraining, type StepReport } from "../site-agent/pretraining/pretraining.ts";
import {
  PRETRAINING_MINUTES_MAX,
  type PretrainingPlan,
  pretrainingPlan,
  stepCountOf,
} from "../site-agent/pretraining/pretraining-plan.ts";
import { readPretrainingState, writePretrainingState } from "../site-agent/pretraining/pretraining-state.ts";
import { replaceFile } from "../site-agent/store/durable-file.ts";

const USAGE =
  "usage: npm run pretrain -- [--minutes N] [--out FILE] [--resume FILE] [--start CHECKPOINT] [--seed N] | --evaluate FILE";
const STEPS_BETWEEN_LINES = 20;
const STEPS_BETWEEN_SAVES = 100;
const SEED_MAX = 0xffff_ffff;

const config = sam2Variants["pretrained-micro"];

type Files = {
  readonly out: string;
  readonly state: string;
  readonly resumes: boolean;
  /** A checkpoint to go on from. */
  readonly start: string | undefined;
};

async function train(plan: PretrainingPlan, { out, state, resumes, start }: Files): Promise<void> {
  const record = resumes ? readPretrainingState(await readFile(state), config, plan) : undefined;
  const weights = start === undefined ? undefined : (await checkpointWeights(start)).weights;
  const pretraining = new Pretraining(config, plan, record, weights);
  const started = performance.now();
  const reports: StepReport[] = [];
  let madeHere = 0;
  while (!pretraining.isDone) {
    const report = pretraining.next();
    reports.push(report);
    madeHere += 1;
    if (reports.length === STEPS_BETWEEN_LINES || pretraining.isDone) {
      console.log(progressLine(reports.splice(0), plan, (performance.now() - started) / 1000 / madeHere));
    }
    if (report.step % STEPS_BETWEEN_SAVES === 0 || pretraining.isDone) {
      await replaceFile(state, writePretrainingState(await pretraining.export(), plan));
    }
  }
  const trained = await pretraining.export();
  await replaceFile(out, writePretrainedCheckpoint(config, trained.weights));
  console.log(`written: ${out}`);
}

function progressLine(reports: readonly StepReport[], plan: PretrainingPlan, secondsPerStep: number): string {
  const mean = (values: readonly number[]): string =>
    (values.reduce((sum, value) => sum + value, 0) / values.length).toFixed(3);
  const overlap = (label: string, counts: (report: StepReport) => boolean): string[] => {
    const all = reports.filter(counts).map(({ meanIou }) => meanIou);
    const values = all.filter((value) => !Number.isNaN(value)); // A clip may have no slice without a prompt.
    return values.length > 0 ? [`IoU ${label} ${mean(values)}`] : [];
  };
  const step = reports.at(-1)?.step ?? 0;
  return [
    `step ${step} of ${stepCountOf(plan)}`,
    `loss ${mean(reports.map(({ loss }) => loss))}`,
    ...(["box", "point", "box-and-mask"] as const).flatMap((kind) =>
      overlap(kind, (report) => report.of === "slices" && report.kind === kind),
    ),
    ...overlap("from memory", ({ of }) => of === "clip"),
    `${secondsPerStep.toFixed(2)} s a step`,
    `${(((stepCountOf(plan) - step) * secondsPerStep) / 60).toFixed(1)} min left`,
  ].join(", ");
}

function scored(weights: Weights): PromptScores {
  const model = new Sam2(config, weights);
  try {
    return evaluatePrompts(model, EVALUATION_PLAN);
  } finally {
    model.dispose();
  }
}

async function evaluate(path: string, backend: BackendReport): Promise<object> {
  const { weights, sha256 } = await checkpointWeights(path);
  return {
    sha256,
    backend: `${backend.name} ${backend.version}`,
    plan: EVALUATION_PLAN,
    filledBox: evaluateBoxes(EVALUATION_PLAN, config.imageSize),
    trained: scored(weights),
    randomWeights: scored(pretrainingStart(config, EVALUATION_PLAN.seed)),
  };
}

async function checkpointWeights(path: string): Promise<{ weights: Weights; sha256: string }> {
  const checkpoint = await openCheckpoint(path, { expected: sam2Parameters(config) });
  try {
    const weights = new Map([...checkpoint.tensors].map(([name, tensor]) => [name, tensor.read()]));
    return { weights, sha256: checkpoint.sha256 };
  } finally {
    checkpoint.close();
  }
}

function wholeNumber(text: string, max: number): number | undefined {
  const value = Number(text);
  return text !== "" && Number.isInteger(value) && value >= 0 && value <= max ? value : undefined;
}

const { values } = parseArgs({
  options: {
    minutes: { type: "string", default: "60" },
    out: { type: "string", default: "pretrained-micro.safetensors" },
    resume: { type: "string" },
    start: { type: "string" },
    seed: { type: "string", default: "1" },
    evaluate: { type: "string" },
  },
});
const minutes = wholeNumber(values.minutes, PRETRAINING_MINUTES_MAX);
const seed = wholeNumber(values.seed, SEED_MAX);
if (!minutes || seed === undefined) {
  console.error(`${USAGE}\n1 to ${PRETRAINING_MINUTES_MAX} minutes`);
  process.exitCode = 2;
} else {
  const backend = await startBackend("wasm");
  if (values.evaluate !== undefined) {
    console.log(JSON.stringify(await evaluate(values.evaluate, backend), undefined, 2));
  } else {
    const state = values.resume ?? `${values.out}.state`;
    await train(pretrainingPlan(minutes, seed, values.start !== undefined), {
      out: values.out,
      state,
      resumes: values.resume !== undefined,
      start: values.start,
    });
  }
}
