// `npm run evidence -- --set hippocampus|headneck --seed N --data DIR --out DIR`: fine-tunes SAM 2.1 with the recipe
// rfmedsam2 on a real data set in several hospitals, in two phases, and scores what comes out beside local and pooled
// training. A second process makes what is not federated meanwhile; files are all that the two share. It can be ended and
// started again, and then refuses a folder of other plans or start weights. `--summarise DIR --out FILE` makes one table
// of all seeds.

import { fork } from "node:child_process";
import { mkdir } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chooseBackend } from "../site-agent/backend/choose-backend.ts";
import { PROMPT_SOURCES } from "../site-agent/recipes/recipe.ts";
import { replaceFile } from "../site-agent/store/durable-file.ts";
import type { WeightValues } from "../site-agent/work/weights-file.ts";
import { EVIDENCE_SETS, settingsOf } from "./evidence/data-sets.ts";
import { scoreAnswer, scoreStagesFrom } from "./evidence/scoring.ts";
import { evidenceStudy, startWeights, withoutTrained } from "./evidence/study.ts";
import { summarise } from "./evidence/summary.ts";
import {
  claimFolder,
  type TrainingCases,
  trainAlone,
  trainFederated,
  trainingCases,
  type Workplace,
} from "./evidence/training.ts";

const USAGE = `usage: npm run evidence -- --set ${EVIDENCE_SETS.map(({ name }) => name).join("|")} --seed N --data DIR --out DIR
       npm run evidence -- --summarise DIR --out FILE.md`;
const SEED_MAX = 0xffff_ffff;

const { values } = parseArgs({
  options: {
    set: { type: "string" },
    seed: { type: "string", default: "1" },
    data: { type: "string", default: "../shared/data" },
    out: { type: "string" },
    summarise: { type: "string" },
    /** Of the second process. */
    others: { type: "boolean", default: false },
  },
});

type Evidence = {
  readonly place: Workplace;
  readonly start: WeightValues;
  readonly cases: TrainingCases;
  readonly backend: string;
};

async function opened(setName: string, seed: number, out: string): Promise<Evidence> {
  const set = EVIDENCE_SETS.find(({ name }) => name === setName);
  if (!set) throw new Error(USAGE);
  const folder = join(out, `${set.name}-${seed}`);
  await mkdir(folder, { recursive: true });
  const startMs = performance.now();
  const say = (line: string): void =>
    console.error(`${((performance.now() - startMs) / 60_000).toFixed(1).padStart(6)} min  ${line}`);
  const study = await evidenceStudy({ set, seed, data: values.data });
  const { backend } = await chooseBackend();
  const abort = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => abort.abort());
  const place: Workplace = { study, out: folder, say, signal: abort.signal };
  const start = await startWeights(study);
  await claimFolder(folder, study, start);
  const cases = await trainingCases(study);
  return { place, start, cases, backend: `${backend.name} ${backend.version}` };
}

/** The federated model, what it is without its adapters, and SAM 2 before any fine-tuning behind the same prompter. */
async function federatedScores({ start, cases, place }: Evidence) {
  const weights = await trainFederated(start, cases, place);
  const federated = await scoreStagesFrom(PROMPT_SOURCES, { name: "federated", weights }, place);
  const bare = { name: "unadapted", weights: withoutTrained(["adapters"], weights, start) };
  const unadapted = await scoreStagesFrom(["prompter", "truth-boxes"], bare, place);
  const first = { name: "untrained", weights: withoutTrained(["sam2", "adapters"], weights, start) };
  const untrained = await scoreStagesFrom(["truth-boxes"], first, place);
  return { federated, unadapted, untrained };
}

/** Each hospital's own model, and that of all cases together. */
async function otherScores({ start, cases, place }: Evidence) {
  const alone = [];
  for (const { site, cases: own } of cases) {
    const weights = await trainAlone(start, { name: site, cases: own }, place);
    alone.push({ site, ...(await scoreAnswer(`local-${site}`, weights, place)) });
  }
  const everyCase = { name: "pooled", cases: cases.flatMap((one) => one.cases) };
  const pooled = await scoreAnswer("pooled", await trainAlone(start, everyCase, place), place);
  return { alone, pooled };
}

async function run(setName: string, seed: number, out: string): Promise<void> {
  const startMs = performance.now();
  const evidence = await opened(setName, seed, out);
  const { place, backend } = evidence;
  const { set, plans, hospitals } = place.study;
  place.say(`${set.name}, seed ${seed}, ${backend}`);
  const others = processForOthers();
  const federated = await federatedScores(evidence);
  const othersCpuSeconds = await others;
  const result = {
    ...{ set: set.name, seed, settings: settingsOf(set), backend, plans },
    hospitals: hospitals.map(({ site, training, validation }) => ({
      ...{ site, training: training.length, validation: validation.length },
    })),
    ...federated,
    ...(await otherScores(evidence)), // Found as files.
    cpuSecondsOfThisRun: cpuSeconds() + othersCpuSeconds,
    minutesOfThisRun: (performance.now() - startMs) / 60_000,
  };
  const file = join(place.out, "result.json");
  await replaceFile(file, Buffer.from(`${JSON.stringify(result, undefined, 1)}\n`));
  place.say(`written: ${file}`);
}

/**
 * TensorFlow would start as many threads in each of the two processes as there are processors, and these wait for each
 * other in loops. What the environment asks for stays.
 */
function shareProcessors(): void {
  const own = String(Math.max(1, Math.floor(availableParallelism() / 2)));
  for (const name of ["TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"]) process.env[name] ??= own;
}

/** This command again for the other models. @returns its CPU seconds */
function processForOthers(): Promise<number> {
  const child = fork(fileURLToPath(import.meta.url), [...process.argv.slice(2), "--others"], {
    execArgv: process.execArgv,
  });
  const ended = new Promise<number>((resolve, reject) => {
    let seconds = 0;
    child.once("message", (message) => {
      seconds = Number(message);
    });
    child.once("exit", (code) =>
      code === 0 ? resolve(seconds) : reject(new Error("the process for the other models failed")),
    );
  });
  ended.catch(() => undefined); // Heard when the federated model is done.
  return ended;
}

function cpuSeconds(): number {
  const { userCPUTime, systemCPUTime } = process.resourceUsage();
  return (userCPUTime + systemCPUTime) / 1e6;
}

async function main(): Promise<void> {
  const seed = Number(values.seed);
  const { set, out, summarise: folder } = values;
  if (out !== undefined && folder !== undefined) return summarise(folder, out);
  if (out === undefined || set === undefined || !Number.isInteger(seed) || seed < 0 || seed > SEED_MAX)
    throw new Error(USAGE);
  shareProcessors();
  if (!values.others) return run(set, seed, out);
  await otherScores(await opened(set, seed, out));
  process.send?.(cpuSeconds());
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 2;
});
