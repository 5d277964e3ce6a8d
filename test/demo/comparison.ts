// Is the federation worth it? On every hospital's own validation volumes: the start model, each hospital training alone
// with as many steps from the same start, the released federated model, and a voxel-wise atlas.

import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { backendWords, type FederatedRun, studyName } from "./federated-run.ts";
import type { Hospital } from "./hospitals.ts";
import type { DemoOptions } from "./options.ts";
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
export type SiteComparison = {
  readonly site: string;
  readonly start: Scores;
  /** What this hospital trained alone. */
  readonly local: Scores;
  /** Mean Dice of what each hospital trained alone, in the order of the hospitals: on this hospital's volumes. */
  readonly everyLocal: readonly { readonly trainedAt: string; readonly dice: number | null }[];
  readonly federated: Scores;
  readonly atlas: Scores | null;
};
export type ModelFiles = {
  readonly start: string;
  readonly federated: string;
  readonly local: ReadonlyMap<string, string>;
};

type Evaluation = {
  readonly models: readonly (Scores & { readonly file: string })[];
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
  const files = {
    start: join(folder, "start.safetensors"),
    federated: join(folder, "federated.safetensors"),
  };
  await command("consilium", [...operator, "model", "export", run.startVersion, "--out", files.start], log);
  await command("consilium", [...operator, "model", "export", run.version, "--out", files.federated], log);
  return {
    ...files,
    local: new Map(hospitals.map(({ name }) => [name, join(folder, `local-${name}.safetensors`)])),
  };
}

/** The signed plan, as the coordinator gives it. */
export async function savePlan({ options, run }: Comparing, token: string): Promise<string> {
  const response = await fetch(`${run.url}/v1/studies/${studyName}/plan`, {
    headers: { authorization: `Bearer ${token}` },
  });
  const { envelope } = (await response.json()) as { envelope: unknown }; // EnvelopeAnswer.
  const file = join(options.out, "plan.signed.json");
  await writeFile(file, JSON.stringify(envelope));
  return file;
}

export async function trainAlone(
  { options, hospitals, say }: Comparing,
  plan: string,
  files: ModelFiles,
): Promise<void> {
  const steps = options.rounds * options.steps;
  await eachOf(hospitals, async ({ name, data, split, home }) => {
    say(`${name} trains alone: ${steps} steps from the same start`);
    const out = files.local.get(name) ?? "";
    const words = [
      "--plan",
      plan,
      "--start",
      files.start,
      "--data",
      data,
      "--split",
      split,
      "--steps",
      String(steps),
      "--seed",
      String(options.seed),
      "--out",
      out,
    ];
    const answer = await ask<{ seconds: number; loss: { first: number; last: number } }>(
      "site",
      ["train", ...words, "--home", home, "--json", ...backendWords(options)],
      join(options.out, "logs", `${name}.local.log`),
    );
    say(
      `${name} trained alone in ${answer.seconds.toFixed(0)} s: loss ${answer.loss.first.toFixed(3)} to ${answer.loss.last.toFixed(3)}`,
    );
  });
}

export async function compare(
  { options, hospitals, say }: Comparing,
  files: ModelFiles,
): Promise<SiteComparison[]> {
  const rows: SiteComparison[] = [];
  await eachOf(hospitals, async (hospital) => {
    const locals = hospitals.map(({ name }) => files.local.get(name) ?? "");
    const { models, baseline } = await ask<Evaluation>(
      "site",
      [
        "evaluate",
        ...[files.start, files.federated, ...locals].flatMap((file) => ["--model", file]),
        ...["--data", hospital.data, "--split", hospital.split, "--home", hospital.home],
        ...["--baseline", "atlas", "--json", ...backendWords(options)],
      ],
      join(options.out, "logs", `${hospital.name}.evaluate.log`),
    );
    const scored = (file: string): Scores =>
      scoresOf(
        expectDefined(
          models.find((one) => one.file === file),
          "scores of a model",
        ),
      );
    rows.push({
      site: hospital.name,
      start: scored(files.start),
      local: scored(files.local.get(hospital.name) ?? ""),
      everyLocal: hospitals.map(({ name }, at) => ({
        trainedAt: name,
        dice: scored(locals[at] ?? "").mean.dice,
      })),
      federated: scored(files.federated),
      atlas: baseline && scoresOf(baseline),
    });
    say(`${hospital.name}: ${hospital.validationCases} validation volumes scored`);
  });
  return rows.sort((a, b) => (a.site < b.site ? -1 : 1));
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

/** The table as text. */
export function comparisonTable(rows: readonly SiteComparison[]): string {
  const columns = ["start", "atlas", "local", "federated"] as const;
  const cell = (value: number | null | undefined): string =>
    (value === null || value === undefined ? "-" : value.toFixed(4)).padStart(10);
  const head = `${"Dice on own validation volumes".padEnd(34)}${columns.map((column) => column.padStart(10)).join("")}`;
  const lines = rows.flatMap((row) => {
    const labels = row.federated.labels.map(({ label }) => label);
    const diceOf = (column: (typeof columns)[number], label: string): number | null | undefined =>
      row[column]?.labels.find((one) => one.label === label)?.dice;
    return [
      ...labels.map(
        (label) =>
          `${`${row.site}  ${label}`.padEnd(34)}${columns.map((column) => cell(diceOf(column, label))).join("")}`,
      ),
      `${`${row.site}  mean`.padEnd(34)}${columns.map((column) => cell(row[column]?.mean.dice)).join("")}`,
      `${"".padEnd(10)}mean of the ${row.everyLocal.length} local models ${cell(meanOfLocals(row))}`,
    ];
  });
  return [head, ...lines].join("\n");
}
