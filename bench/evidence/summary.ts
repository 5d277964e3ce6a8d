// All seeds of a data set as one table: means over the seeds with their spread, and what was to be reached beside what
// was. Nothing is left out for being worse than hoped.

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { replaceFile } from "../../site-agent/store/durable-file.ts";
import { EVIDENCE_SETS, type EvidenceSet } from "./data-sets.ts";
import type { StageResult } from "./scoring.ts";

export type EvidenceResult = {
  readonly set: string;
  readonly seed: number;
  /** Rounds and steps, preprocessing and image size, as the set had them. */
  readonly settings: unknown;
  readonly backend: string;
  readonly hospitals: readonly {
    readonly site: string;
    readonly training: number;
    readonly validation: number;
  }[];
  readonly federated: readonly StageResult[];
  /** The federated model with adapters that change nothing. */
  readonly unadapted: readonly StageResult[];
  /** SAM 2 as it came. Absent where it was not trained: it is the one without adapters then. */
  readonly untrained?: readonly StageResult[];
  readonly pooled: StageResult;
  readonly alone: readonly (StageResult & { readonly site: string })[];
};

type Row = {
  readonly words: string;
  readonly kind: string;
  readonly of: (result: EvidenceResult) => number[];
};

const MARGIN_OVER_FILLED = 0.05;
const COST_OF_ZEROED = 0.05;
const POOLED_DISTANCE_MAX = 0.015;

/**
 * @param folder holds `SET-SEED/result.json`
 * @param out    a Markdown file; the same as JSON goes beside it, and what that holds of other seeds under the same
 *               settings is kept
 */
export async function summarise(folder: string, out: string): Promise<void> {
  const json = out.replace(/\.md$/, ".json");
  const results = mergedResults(await resultsOf(json), await resultsBelow(folder));
  const sets = EVIDENCE_SETS.filter(({ name }) => results.some(({ set }) => set === name));
  const parts = sets.map((set) =>
    summaryOf(
      set,
      results.filter((result) => result.set === set.name),
    ),
  );
  await replaceFile(
    out,
    Buffer.from(`# RFMedSAM 2 on real data\n\n${parts.map(({ text }) => text).join("\n\n")}\n`),
  );
  const numbers = parts.map(({ text: _, ...rest }) => rest);
  await replaceFile(json, Buffer.from(`${JSON.stringify({ summaries: numbers, results }, undefined, 1)}\n`));
}

async function resultsOf(json: string): Promise<EvidenceResult[]> {
  const text = await readFile(json, "utf8").catch(() => null);
  return text === null ? [] : (JSON.parse(text) as { results: EvidenceResult[] }).results; // Written above.
}

/** Results of one set are only compared where they were made under the same settings. */
export function mergedResults(
  earlier: readonly EvidenceResult[],
  fresh: readonly EvidenceResult[],
): EvidenceResult[] {
  const isKept = (old: EvidenceResult): boolean => {
    const ofSet = fresh.filter(({ set }) => set === old.set);
    const hasSettings = ({ settings }: EvidenceResult) => isDeepStrictEqual(settings, old.settings);
    return ofSet.every((one) => one.seed !== old.seed && hasSettings(one));
  };
  return [...earlier.filter(isKept), ...fresh].sort((a, b) => a.set.localeCompare(b.set) || a.seed - b.seed);
}

async function resultsBelow(folder: string): Promise<EvidenceResult[]> {
  const results: EvidenceResult[] = [];
  for (const name of (await readdir(folder)).sort()) {
    const text = await readFile(join(folder, name, "result.json"), "utf8").catch(() => null);
    if (text === null) continue;
    const { plans: _, ...result } = JSON.parse(text) as EvidenceResult & { plans: unknown }; // Written by evidence.ts.
    results.push(result);
  }
  if (results.length === 0) throw new Error(`${folder} holds no result.json of a run`);
  return results;
}

export function stageOf(results: readonly StageResult[], stage: string): StageResult {
  const found = results.find((result) => result.stage === stage);
  if (!found) throw new Error(`no stage ${stage}`);
  return found;
}

/** Of a result that was made before there was such a stage nothing is known. */
function diceOf(results: readonly StageResult[], stage: string): Pick<StageResult, "dice" | "mean"> {
  return results.find((result) => result.stage === stage) ?? { dice: {}, mean: Number.NaN };
}

const automatic = "automatic";
const limit = "prompted with the truth";

function rowsOf(labels: readonly string[]): Row[] {
  const dice = ({ dice: byLabel, mean }: Pick<StageResult, "dice" | "mean">): number[] => [
    ...labels.map((label) => byLabel[label] ?? Number.NaN),
    mean,
  ];
  const federated = (words: string, stage: string, kind = automatic): Row => ({
    ...{ words, kind },
    of: (result) => dice(diceOf(result.federated, stage)),
  });
  const unadapted = (words: string, stage: string, kind = automatic): Row => ({
    ...{ words, kind },
    of: (result) => dice(diceOf(result.unadapted, stage)),
  });
  return [
    federated("prompter alone (stage 0)", "stage-0"),
    federated("stage 1", "stage-1"),
    federated("**stage 2**", "stage-2"),
    federated("stage 2, averaged with the prompter's masks", "stage-2-averaged"),
    federated("stage 2 without M0 in steps 6 and 7", "stage-2-without-prompter-masks"),
    federated("stage 2 from boxes alone", "stage-2-boxes-only"),
    federated("stage 2, largest part of each organ", "stage-2-largest-parts"),
    unadapted("stage 2, adapters set to zero", "stage-2"),
    unadapted("stage 2 without M0, adapters set to zero", "stage-2-without-prompter-masks"),
    {
      words: "stage 2, mean of the local models",
      kind: automatic,
      of: ({ alone }) => meanRow(alone.map(dice)),
    },
    { words: "stage 2, pooled training", kind: automatic, of: ({ pooled }) => dice(pooled) },
    federated("filled prompter boxes", "filled-prompter-boxes", "no model"),
    federated("filled boxes of the truth", "filled-truth-boxes", "no model"),
    {
      ...{ words: "boxes of the truth, before any fine-tuning", kind: limit },
      of: ({ untrained, unadapted: bare }) => dice(diceOf(untrained ?? bare, "truth-boxes-stage-1")),
    },
    federated("boxes of the truth, stage 1", "truth-boxes-stage-1", limit),
    federated("boxes of the truth, stage 2", "truth-boxes-stage-2", limit),
    federated("points of the truth, stage 1", "truth-points-stage-1", limit),
    federated("points of the truth, stage 2", "truth-points-stage-2", limit),
  ];
}

function summaryOf(set: EvidenceSet, results: readonly EvidenceResult[]) {
  const columns = [...set.labels, "mean"];
  const rows = rowsOf(set.labels).map(({ words, kind, of }) => {
    const perSeed = results.map(of);
    return { words, kind, mean: meanRow(perSeed), spread: spreadRow(perSeed) };
  });
  const goals = goalsOf(set, results);
  const replaced = results.map(({ federated }) => stageOf(federated, "stage-2").objects?.shareReplaced ?? 0);
  // One seed has no spread.
  const cell = (value: number, spread: number): string => {
    if (Number.isNaN(value)) return "–";
    return results.length > 1 ? `${value.toFixed(3)} ± ${spread.toFixed(3)}` : value.toFixed(3);
  };
  const [first] = results;
  const text = [
    `## ${set.name}`,
    "",
    `${results.length > 1 ? "Seeds" : "Seed"} ${results.map(({ seed }) => seed).join(", ")}; ${[...new Set(results.map(({ backend }) => backend))].join(" or ")}; ${first?.hospitals.map(({ site, training, validation }) => `${site} ${training} to train and ${validation} to validate`).join(", ")}. Dice over all validation cases${results.length > 1 ? ", mean and standard deviation over the seeds" : ""}.`,
    "",
    `| answer | kind | ${columns.join(" | ")} |`,
    `| --- | --- |${columns.map(() => " --- |").join("")}`,
    ...rows.map(
      ({ words, kind, mean, spread }) =>
        `| ${words} | ${kind} | ${mean.map((value, index) => cell(value, spread[index] ?? 0)).join(" | ")} |`,
    ),
    "",
    `Share of the objects whose mask replaced the prompter's in stage 2: ${replaced.map((share) => `${(100 * share).toFixed(1)} %`).join(", ")}.`,
    "",
    "| wanted | found | |",
    "| --- | --- | --- |",
    ...goals.map(
      ({ wanted, found, isReached }) =>
        `| ${wanted} | ${found} | ${isReached ? "reached" : "**not reached**"} |`,
    ),
  ].join("\n");
  return { set: set.name, columns, rows, goals, replaced, text };
}

type Goal = { readonly wanted: string; readonly found: string; readonly isReached: boolean };

/** Of means over the seeds. */
function goalsOf(set: EvidenceSet, results: readonly EvidenceResult[]): Goal[] {
  const mean = (of: (result: EvidenceResult) => number): number =>
    results.reduce((sum, result) => sum + of(result), 0) / results.length;
  const model = "stage-2-without-prompter-masks";
  const goal = (wanted: string, found: number, isReached: boolean): Goal => ({
    ...{ wanted, found: found.toFixed(4), isReached },
  });
  const organs = Object.entries(set.diceMin).map(([label, min]) => {
    const found = mean(({ federated }) => stageOf(federated, model).dice[label] ?? Number.NaN);
    return goal(`stage 2 without M0, ${label}: at least ${min}`, found, found >= min);
  });
  const second = mean(({ federated }) => stageOf(federated, model).mean);
  const prompter = mean(({ federated }) => stageOf(federated, "stage-0").mean);
  const boxes = mean(({ federated }) => stageOf(federated, "truth-boxes-stage-1").mean);
  const filled = mean(({ federated }) => stageOf(federated, "filled-truth-boxes").mean);
  const zeroed = mean(({ unadapted }) => stageOf(unadapted, "truth-boxes-stage-1").mean);
  const federated = mean((result) => stageOf(result.federated, "stage-2").mean);
  const local = mean(({ alone }) => alone.reduce((sum, one) => sum + one.mean, 0) / alone.length);
  const pooled = mean((result) => result.pooled.mean);
  return [
    ...organs,
    goal("stage 2 without M0, gain over the prompter: at least 0", second - prompter, second >= prompter),
    goal(
      `adapted from boxes alone, above the filled box: at least ${MARGIN_OVER_FILLED}`,
      boxes - filled,
      boxes - filled >= MARGIN_OVER_FILLED,
    ),
    goal(
      `cost of adapters set to zero, from boxes: at least ${COST_OF_ZEROED}`,
      boxes - zeroed,
      boxes - zeroed >= COST_OF_ZEROED,
    ),
    goal("federated above the mean local model: at least 0", federated - local, federated >= local),
    goal(
      `federated below pooled: at most ${POOLED_DISTANCE_MAX}`,
      pooled - federated,
      pooled - federated <= POOLED_DISTANCE_MAX,
    ),
  ];
}

function meanRow(rows: readonly (readonly number[])[]): number[] {
  return (rows[0] ?? []).map(
    (_, column) => rows.reduce((sum, row) => sum + (row[column] ?? Number.NaN), 0) / rows.length,
  );
}

/** Standard deviation of a sample; 0 of one alone. */
function spreadRow(rows: readonly (readonly number[])[]): number[] {
  const means = meanRow(rows);
  if (rows.length < 2) return means.map(() => 0);
  return means.map((mean, column) =>
    Math.sqrt(
      rows.reduce((sum, row) => sum + ((row[column] ?? Number.NaN) - mean) ** 2, 0) / (rows.length - 1),
    ),
  );
}
