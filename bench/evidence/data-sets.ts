// The real data sets on which the recipe is tried, and the hospitals that they are dealt to. The data lies outside the
// repository; where it is absent, nothing runs and it is said by name.

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Type } from "typebox";
import { Value } from "typebox/value";

export type EvidenceSet = {
  readonly name: string;
  /** Below the folder of data. */
  readonly folder: string;
  readonly federation: string;
  readonly labels: readonly string[];
  readonly partialLabels: "per-site" | "per-case";
  /** Rounds and steps of a round: of the prompter, then of the adapters. */
  readonly prompter: { readonly rounds: number; readonly steps: number; readonly slices: number };
  readonly adapters: { readonly rounds: number; readonly steps: number };
  /** Means over all validation cases, after fine-tuning, that stage 2 must reach without the prompter's word. */
  readonly diceMin: Readonly<Record<string, number>>;
};

export const EVIDENCE_SETS: readonly EvidenceSet[] = [
  {
    name: "hippocampus",
    folder: "msd-hippocampus-mr",
    federation: "hippocampus-mr-3-hospitals",
    labels: ["anterior", "posterior"],
    partialLabels: "per-site",
    prompter: { rounds: 8, steps: 150, slices: 4 },
    adapters: { rounds: 6, steps: 40 },
    diceMin: { anterior: 0.85, posterior: 0.83 },
  },
  {
    name: "headneck",
    folder: "openkbp-headneck-ct",
    federation: "headneck-ct-4-hospitals",
    labels: ["brainstem", "spinal cord", "right parotid", "left parotid", "esophagus", "larynx", "mandible"],
    partialLabels: "per-case",
    prompter: { rounds: 8, steps: 150, slices: 4 },
    adapters: { rounds: 6, steps: 50 },
    diceMin: {},
  },
];

const Splits = Type.Object({ federations: Type.Record(Type.String(), Type.Unknown()) });
const Federation = Type.Object({ sites: Type.Record(Type.String(), Type.Array(Type.String())) });

export type HospitalCases = {
  readonly site: string;
  readonly training: readonly string[];
  readonly validation: readonly string[];
};

/** The last fifth of each hospital's list validates. @throws where the data is absent */
export async function hospitalsOf(set: EvidenceSet, data: string): Promise<HospitalCases[]> {
  const [folder, file] = [join(data, set.folder), join(data, "splits.json")];
  for (const path of [folder, file]) {
    if (!existsSync(path)) throw new Error(`skipped: ${set.name} needs ${path}, which is not there`);
  }
  const splits: unknown = JSON.parse(await readFile(file, "utf8"));
  if (!Value.Check(Splits, splits)) throw new Error(`${file} is not a list of federations`);
  const federation = splits.federations[set.federation];
  if (!Value.Check(Federation, federation)) {
    throw new Error(`${file} has no federation ${set.federation} of lists of cases`);
  }
  return Object.entries(federation.sites).map(([site, cases]) => {
    const count = Math.floor(cases.length / 5);
    return {
      site,
      training: cases.slice(0, cases.length - count),
      validation: cases.slice(cases.length - count),
    };
  });
}
