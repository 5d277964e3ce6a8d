// `npm run evidence -- --set hippocampus|headneck --seed N --data DIR --out DIR`: fine-tunes SAM 2.1 with the recipe
// rfmedsam2 on a real data set in several hospitals, in two phases, and scores what comes out beside local and pooled
// training. It can be ended and started again, and then refuses a folder of other plans or start weights. `--summarise DIR --out FILE` makes one table of all seeds.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chooseBackend } from "../site-agent/backend/choose-backend.ts";
import { replaceFile } from "../site-agent/store/durable-file.ts";
import { EVIDENCE_SETS } from "./evidence/data-sets.ts";
import { scoreAllStages, scoreAnswer } from "./evidence/scoring.ts";
import { evidenceStudy, startWeights, withoutAdapters } from "./evidence/study.ts";
import { summarise } from "./evidence/summary.ts";
import {
  claimFolder,
  type TrainedModels,
  trainingCases,
  trainPhase,
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
  },
});

async function run(setName: string, seed: number, out: string): Promise<void> {
  const set = EVIDENCE_SETS.find(({ name }) => name === setName);
  if (!set) throw new Error(USAGE);
  const folder = join(out, `${set.name}-${seed}`);
  await mkdir(folder, { recursive: true });
  const startMs = performance.now();
  const say = (line: string): void =>
    console.error(`${((performance.now() - startMs) / 60_000).toFixed(1).padStart(6)} min  ${line}`);
  const study = await evidenceStudy({ set, seed, data: values.data });
  const { backend } = await chooseBackend();
  say(`${set.name}, seed ${seed}, ${backend.name} ${backend.version}`);
  const abort = new AbortController();
  const place: Workplace = { study, out: folder, say, signal: abort.signal };
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => abort.abort());
  const start = await startWeights(study);
  await claimFolder(folder, study, start);
  const cases = await trainingCases(study);
  const locals = study.hospitals.map(({ site }) => ({ site, weights: start }));
  const begun: TrainedModels = { federated: start, locals, pooled: start };
  const prompters = await trainPhase("prompter", begun, cases, place);
  const models = await trainPhase("adapters", prompters, cases, place);
  const federated = await scoreAllStages("federated", models.federated, place);
  const unadapted = await scoreAllStages("unadapted", withoutAdapters(models.federated, start), place);
  const pooled = await scoreAnswer("pooled", models.pooled, place);
  const alone = [];
  for (const { site, weights } of models.locals)
    alone.push({ site, ...(await scoreAnswer(`local-${site}`, weights, place)) });
  const usage = process.resourceUsage();
  const result = {
    ...{ set: set.name, seed, backend: `${backend.name} ${backend.version}`, plans: study.plans },
    hospitals: study.hospitals.map(({ site, training, validation }) => ({
      ...{ site, training: training.length, validation: validation.length },
    })),
    ...{ federated, unadapted, pooled, alone },
    cpuSecondsOfThisRun: (usage.userCPUTime + usage.systemCPUTime) / 1e6,
    minutesOfThisRun: (performance.now() - startMs) / 60_000,
  };
  await replaceFile(join(folder, "result.json"), Buffer.from(`${JSON.stringify(result, undefined, 1)}\n`));
  say(`written: ${join(folder, "result.json")}`);
}

async function main(): Promise<void> {
  const seed = Number(values.seed);
  const { set, out, summarise: folder } = values;
  if (out !== undefined && folder !== undefined) return summarise(folder, out);
  if (out === undefined || set === undefined || !Number.isInteger(seed) || seed < 0 || seed > SEED_MAX)
    throw new Error(USAGE);
  return run(set, seed, out);
}

await main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 2;
});
