// The demo's command line.

import { resolve } from "node:path";
import { parseArgs } from "node:util";

export type DemoOptions = {
  /** Real volumes; null draws phantoms. */
  readonly data: string | null;
  /** `FILE#NAME`: which cases belong to which hospital. */
  readonly sites: string | null;
  readonly labels: readonly string[] | null;
  readonly partialLabels: "per-site" | "per-case";
  readonly rounds: number;
  readonly steps: number;
  /** Slices of a step: the phantoms are learnt sooner from many small steps. */
  readonly batchSize: number;
  readonly recipe: string;
  readonly size: "small" | "medium" | "large";
  readonly backend: string | null;
  readonly seed: number;
  /** Cases of each kind that a phantom hospital has. */
  readonly phantoms: number;
  readonly out: string;
  readonly isQuick: boolean;
};

export const usage = `usage: npm run demo -- [options]
  --data DIR          real volumes instead of phantoms (nnU-Net, Decathlon or cases/ layout)
  --sites FILE#NAME   which cases belong to which hospital; without it they are dealt out to three
  --labels A,B,...    names of the labels 1, 2, ... where there is no dataset.json
  --partial-labels W  per-site (default) or per-case: when an organ that is not drawn was not contoured
  --rounds N          federated rounds
  --steps N           training steps of each site in each round
  --recipe NAME       unet-prompter
  --size NAME         small, medium or large network
  --backend NAME      compute backend of every site; chosen by each site where it is not given
  --seed N            of the start model, the training and the phantoms
  --quick             two rounds of a few steps, to see everything once
  --out DIR           where everything is written (default data/demo)`;

export class DemoUsageError extends Error {
  override name = "DemoUsageError";
}

/** @throws DemoUsageError with every fault */
export function readOptions(words: readonly string[]): DemoOptions {
  const faults: string[] = [];
  const values = parsed(words);
  const whole = (name: "rounds" | "steps" | "seed", fallback: number): number => {
    const text = values[name];
    if (text === undefined) return fallback;
    const value = Number(text);
    if (Number.isSafeInteger(value) && value >= (name === "seed" ? 0 : 1)) return value;
    faults.push(`--${name} must be a whole number`);
    return fallback;
  };
  const isQuick = values.quick === true;
  const isReal = values.data !== undefined;
  const defaults = isQuick
    ? { rounds: 2, steps: 6 }
    : isReal
      ? { rounds: 8, steps: 200 }
      : { rounds: 8, steps: 50 };
  const oneOf = <T extends string>(
    name: "size" | "partial-labels",
    fallback: T,
    allowed: readonly T[],
  ): T => {
    const text = values[name] ?? fallback;
    const found = allowed.find((value) => value === text);
    if (found === undefined) faults.push(`--${name} must be one of ${allowed.join(", ")}`);
    return found ?? fallback;
  };
  const size = oneOf<DemoOptions["size"]>("size", isQuick ? "small" : "medium", ["small", "medium", "large"]);
  const partialLabels = oneOf<DemoOptions["partialLabels"]>("partial-labels", "per-site", [
    "per-site",
    "per-case",
  ]);
  const recipe = values.recipe ?? "unet-prompter";
  if (recipe !== "unet-prompter")
    faults.push(`--recipe ${recipe} is not known; this version has unet-prompter`);
  if (values.sites !== undefined && !/^[^#]+#[^#]+$/.test(values.sites))
    faults.push("--sites has the form FILE#NAME");
  const options = {
    data: values.data === undefined ? null : resolve(values.data),
    sites: values.sites ?? null,
    labels: values.labels?.split(",").map((name) => name.trim()) ?? null,
    partialLabels,
    rounds: whole("rounds", defaults.rounds),
    steps: whole("steps", defaults.steps),
    batchSize: isReal ? 4 : 2,
    recipe,
    size,
    backend: values.backend ?? null,
    seed: whole("seed", 1),
    phantoms: isQuick ? 3 : 6,
    out: resolve(values.out ?? "data/demo"),
    isQuick,
  };
  if (faults.length > 0) throw new DemoUsageError(`${faults.join("\n")}\n\n${usage}`);
  return options;
}

function parsed(words: readonly string[]) {
  try {
    return parseArgs({
      args: [...words],
      options: {
        data: { type: "string" },
        sites: { type: "string" },
        labels: { type: "string" },
        "partial-labels": { type: "string" },
        rounds: { type: "string" },
        steps: { type: "string" },
        recipe: { type: "string" },
        size: { type: "string" },
        backend: { type: "string" },
        seed: { type: "string" },
        quick: { type: "boolean" },
        out: { type: "string" },
      },
    }).values;
  } catch (cause) {
    throw new DemoUsageError(`${(cause as Error).message}\n\n${usage}`, { cause });
  }
}
