// The demo's command line.

import { resolve } from "node:path";
import { parseArgs } from "node:util";

export type DemoRecipe = "rfmedsam2" | "unet-prompter";

/** A study of the demo: phase 1 trains the network that prompts, phase 2 the adapters of SAM 2 behind it. */
export type DemoPhase = {
  readonly study: string;
  readonly trains: "prompter" | "adapters";
  readonly rounds: number;
  readonly steps: number;
  /** Slices of a step, or clips of slices where adapters are trained. */
  readonly batchSize: number;
};

export type DemoOptions = {
  /** Real volumes; null draws phantoms. */
  readonly data: string | null;
  /** `FILE#NAME`: which cases belong to which hospital. */
  readonly sites: string | null;
  readonly labels: readonly string[] | null;
  readonly partialLabels: "per-site" | "per-case";
  readonly recipe: DemoRecipe;
  /** One study each, in their order. */
  readonly phases: readonly DemoPhase[];
  readonly size: "small" | "medium" | "large";
  /** Side of SAM 2's image; null for the record's own. */
  readonly imageSize: number | null;
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
  --recipe NAME       rfmedsam2 (default): SAM 2.1 with adapters behind a network that prompts it;
                      unet-prompter: that network alone
  --rounds N          federated rounds of the network
  --steps N           its training steps at each site in each round
  --adapter-rounds N  the same of the adapters
  --adapter-steps N
  --size NAME         small, medium or large network
  --backend NAME      compute backend of every site; chosen by each site where it is not given
  --seed N            of the start model, the training and the phantoms
  --quick             two rounds of a few steps, to see everything once
  --out DIR           where everything is written (default data/demo)`;

export class DemoUsageError extends Error {
  override name = "DemoUsageError";
}

type WholeNumber = "rounds" | "steps" | "adapter-rounds" | "adapter-steps" | "seed";
type Length = { readonly rounds: number; readonly steps: number };
type Lengths = { readonly prompter: Length; readonly adapters: Length };

/** An untrained prompter sees every organ everywhere: SAM 2 is asked the most where it can answer the least. */
const QUICK_IMAGE_SIZE = 64;
const QUICK: Lengths = { prompter: { rounds: 2, steps: 6 }, adapters: { rounds: 1, steps: 2 } };
const PHANTOMS: Lengths = { prompter: { rounds: 6, steps: 50 }, adapters: { rounds: 2, steps: 8 } };
const REAL: Lengths = { prompter: { rounds: 8, steps: 150 }, adapters: { rounds: 6, steps: 50 } };

/** @throws DemoUsageError with every fault */
export function readOptions(words: readonly string[]): DemoOptions {
  const faults: string[] = [];
  const values = parsed(words);
  const whole = (name: WholeNumber, fallback: number): number => {
    const text = values[name];
    if (text === undefined) return fallback;
    const value = Number(text);
    if (Number.isSafeInteger(value) && value >= (name === "seed" ? 0 : 1)) return value;
    faults.push(`--${name} must be a whole number`);
    return fallback;
  };
  const isQuick = values.quick === true;
  const isReal = values.data !== undefined;
  const defaults = isQuick ? QUICK : isReal ? REAL : PHANTOMS;
  const oneOf = <T extends string>(
    name: "size" | "partial-labels" | "recipe",
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
  const recipe = oneOf<DemoRecipe>("recipe", "rfmedsam2", ["rfmedsam2", "unet-prompter"]);
  const prompter: DemoPhase = {
    ...{ study: "demo", trains: "prompter", batchSize: isReal ? 4 : 2 },
    rounds: whole("rounds", defaults.prompter.rounds),
    steps: whole("steps", defaults.prompter.steps),
  };
  const adapters: DemoPhase = {
    ...{ study: "demo-adapters", trains: "adapters", batchSize: 1 },
    rounds: whole("adapter-rounds", defaults.adapters.rounds),
    steps: whole("adapter-steps", defaults.adapters.steps),
  };
  if (values.sites !== undefined && !/^[^#]+#[^#]+$/.test(values.sites))
    faults.push("--sites has the form FILE#NAME");
  const options = {
    data: values.data === undefined ? null : resolve(values.data),
    sites: values.sites ?? null,
    labels: values.labels?.split(",").map((name) => name.trim()) ?? null,
    partialLabels,
    recipe,
    phases: recipe === "rfmedsam2" ? [prompter, adapters] : [prompter],
    size,
    imageSize: isQuick ? QUICK_IMAGE_SIZE : null,
    backend: values.backend ?? null,
    seed: whole("seed", 1),
    phantoms: isQuick ? 3 : 6,
    out: resolve(values.out ?? "data/demo"),
    isQuick,
  };
  if (faults.length > 0) throw new DemoUsageError(`${faults.join("\n")}\n\n${usage}`);
  return options;
}

export function backendWords({ backend }: Pick<DemoOptions, "backend">): string[] {
  return backend === null ? [] : ["--backend", backend];
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
        "adapter-rounds": { type: "string" },
        "adapter-steps": { type: "string" },
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
