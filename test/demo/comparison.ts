// Is the federation worth it, and what does each part of the answer add? On every hospital's own validation volumes:
// the base (SAM 2 as it was pretrained, behind the federated prompter), what each hospital trained alone with as many
// steps, the released federated model, and a voxel-wise atlas; of the first three every stage of the answer.

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import type { FederatedRun } from "./federated-run.ts";
import type { Hospital } from "./hospitals.ts";
import { backendWords, type DemoOptions } from "./options.ts";
import { ask, command, eachOf } from "./processes.ts";

export type LabelScore = {
  readonly label: string;
  readonly cases: number;
  readonly dice: number | null;
  readonly hd95Mm: number | null;
  readonly nsd1mm: number | null;
};
export type Scores = {
  readonly labels: readonly LabelScore[];
  readonly mean: {
    readonly dice: number | null;
    readonly hd95Mm: number | null;
    readonly nsd1mm: number | null;
  };
};
/** Mean Dice of every stage: `stage-0` is the prompter alone. None where the recipe's answer has no stages. */
export type StageDice = Readonly<Record<string, number | null>>;
export const MODELS = ["base", "local", "federated"] as const;
/** What a hospital's volumes are scored with. */
export const COLUMNS = ["atlas", ...MODELS] as const;
/** The stages that a comparison shows, in people's words. */
export const STAGE_WORDS = {
  "stage-0": "prompter alone",
  "stage-1": "stage 1",
  "stage-2": "stage 2",
} as const;

export type SiteComparison = {
  readonly site: string;
  readonly base: Scores;
  /** What this hospital trained alone. */
  readonly local: Scores;
  /** Mean Dice of what each hospital trained alone, in the order of the hospitals: on this hospital's volumes. */
  readonly everyLocal: readonly { readonly trainedAt: string; readonly dice: number | null }[];
  readonly federated: Scores;
  readonly atlas: Scores | null;
  readonly stages: Readonly<Record<(typeof MODELS)[number], StageDice>>;
};
export type ModelFiles = {
  /** What the first phase starts from, and the last one. */
  readonly start: string;
  readonly base: string;
  readonly federated: string;
  readonly local: ReadonlyMap<string, string>;
};

type ModelScores = Scores & {
  readonly file: string;
  readonly stages?: readonly (Scores & { readonly stage: string })[];
};
/** Of a single model the scores stand at the top. */
type Evaluation = Partial<ModelScores> & {
  readonly models?: readonly ModelScores[];
  readonly baseline: Scores | null;
};
type Say = (line: string) => void;
type Comparing = {
  readonly options: DemoOptions;
  readonly hospitals: readonly Hospital[];
  readonly run: FederatedRun;
  readonly operator: readonly string[];
  readonly say: Say;
};

export async function exportModels({ options, hospitals, run, operator }: Comparing): Promise<ModelFiles> {
  const folder = join(options.out, "models");
  await mkdir(folder, { recursive: true });
  const log = join(options.out, "logs/coordinator.log");
  const exported = async (name: string, version: string): Promise<string> => {
    const file = join(folder, `${name}.safetensors`);
    await command("consilium", [...operator, "model", "export", version, "--out", file], log);
    return file;
  };
  const { phases, version } = run;
  const start = await exported("start", expectDefined(phases[0], "a phase").startVersion);
  const base =
    phases.length === 1
      ? start
      : await exported("base", expectDefined(phases.at(-1), "a phase").startVersion);
  return {
    ...{ start, base, federated: await exported("federated", version) },
    local: new Map(hospitals.map(({ name }) => [name, join(folder, `local-${name}.safetensors`)])),
  };
}

/** The signed plans, as the coordinator gives them, phase by phase. */
export async function savePlans({ options, run }: Comparing, token: string): Promise<string[]> {
  const files: string[] = [];
  for (const { study } of run.phases) {
    const response = await fetch(`${run.url}/v1/studies/${study}/plan`, {
      headers: { authorization: `Bearer ${token}` },
    });
    const { envelope } = (await response.json()) as { envelope: unknown }; // EnvelopeAnswer.
    const file = join(options.out, `plan-${study}.signed.json`);
    await writeFile(file, JSON.stringify(envelope));
    files.push(file);
  }
  return files;
}

/** Every hospital goes through the phases by itself. */
export async function trainAlone(
  { options, hospitals, say }: Comparing,
  plans: readonly string[],
  files: ModelFiles,
): Promise<void> {
  await eachOf(hospitals, async ({ name, data, split, home }) => {
    const out = files.local.get(name) ?? "";
    let start = files.start;
    for (const [index, { trains, rounds, steps }] of options.phases.entries()) {
      const isLast = index === options.phases.length - 1;
      const to = isLast ? out : out.replace(/\.safetensors$/, `.${trains}.safetensors`);
      const words = [
        ...["--plan", expectDefined(plans[index], "a plan"), "--start", start, "--data", data],
        ...["--split", split, "--steps", String(rounds * steps), "--seed", String(options.seed)],
        ...["--out", to, "--home", home, "--json", ...backendWords(options)],
      ];
      const log = join(options.out, "logs", `${name}.local.log`);
      const { seconds, loss } = await ask<{ seconds: number; loss: { first: number; last: number } }>(
        "site",
        ["train", ...words],
        log,
      );
      say(
        `${name} trained ${trains} alone, ${rounds * steps} steps in ${seconds.toFixed(0)} s: loss ${loss.first.toFixed(3)} to ${loss.last.toFixed(3)}`,
      );
      start = to;
    }
  });
}

export async function compare(
  { options, hospitals, say }: Comparing,
  files: ModelFiles,
): Promise<SiteComparison[]> {
  const rows: SiteComparison[] = [];
  await eachOf(hospitals, async (hospital) => {
    const own = files.local.get(hospital.name) ?? "";
    const others = hospitals.map(({ name }) => files.local.get(name) ?? "").filter((file) => file !== own);
    const log = join(options.out, "logs", `${hospital.name}.evaluate.log`);
    const evaluated = (models: readonly string[], words: readonly string[]): Promise<Evaluation> =>
      ask<Evaluation>(
        "site",
        [
          ...["evaluate", ...models.flatMap((file) => ["--model", file]), ...words],
          ...["--data", hospital.data, "--split", hospital.split, "--home", hospital.home],
          ...["--json", ...backendWords(options)],
        ],
        log,
      );
    const staged = await evaluated(
      [files.base, files.federated, own],
      ["--baseline", "atlas", "--stages", "automatic"],
    );
    const answers = await evaluated(others, ["--stages", "answer"]);
    const all = [staged, answers].flatMap(({ models, ...only }) => models ?? [only as ModelScores]); // One model alone.
    const scored = (file: string): ModelScores =>
      expectDefined(
        all.find((one) => one.file === file),
        "scores of a model",
      );
    rows.push({
      site: hospital.name,
      base: scoresOf(scored(files.base)),
      local: scoresOf(scored(own)),
      everyLocal: hospitals.map(({ name }) => ({
        trainedAt: name,
        dice: scored(files.local.get(name) ?? "").mean.dice,
      })),
      federated: scoresOf(scored(files.federated)),
      atlas: staged.baseline && scoresOf(staged.baseline),
      stages: {
        base: stagesOf(scored(files.base)),
        local: stagesOf(scored(own)),
        federated: stagesOf(scored(files.federated)),
      },
    });
    say(`${hospital.name}: ${hospital.validationCases} validation volumes scored`);
  });
  return rows.sort((a, b) => (a.site < b.site ? -1 : 1));
}

function stagesOf({ stages = [] }: ModelScores): StageDice {
  return Object.fromEntries(stages.map(({ stage, mean }) => [stage, mean.dice]));
}

function scoresOf({ labels, mean }: Scores): Scores {
  const only = ({ dice, hd95Mm, nsd1mm }: Scores["mean"]): Scores["mean"] => ({ dice, hd95Mm, nsd1mm });
  return {
    labels: labels.map((one) => ({ label: one.label, cases: one.cases, ...only(one) })),
    mean: only(mean),
  };
}

/** Mean over the hospitals' own models: what a hospital gets, on average, that takes over a neighbour's model or its own. */
export function meanOfLocals({ everyLocal }: SiteComparison): number | null {
  const dice = everyLocal.flatMap((one) => one.dice ?? []);
  return dice.length === 0 ? null : dice.reduce((sum, value) => sum + value, 0) / dice.length;
}
