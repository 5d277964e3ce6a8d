// Which cases belong to which hospital, from a file that names them.

import { readFile } from "node:fs/promises";
import { lastFifth } from "@consilium/site-agent/data/cohort.ts";
import { Type } from "typebox";
import { Value } from "typebox/value";
import { DemoUsageError } from "./options.ts";

export type SiteShare = { readonly training: readonly string[]; readonly validation: readonly string[] };

const Names = Type.Array(Type.String());
const SiteEntry = Type.Union([
  Names,
  Type.Object({ train: Names, test: Type.Optional(Names) }),
  Type.Object({ training: Names, validation: Type.Optional(Names) }),
]);
const SplitsFile = Type.Object({ federations: Type.Record(Type.String(), Type.Unknown()) });
const FederationEntry = Type.Object({ sites: Type.Record(Type.String(), SiteEntry) });

/** `{"federations": {NAME: {"sites": {"hospital-a": [...] or {"train": [...], "test": [...]}}}}}` */
export async function namedShares(reference: string): Promise<[string, SiteShare][]> {
  const [file = "", name = ""] = reference.split("#");
  const text = await readFile(file, "utf8").catch(() => {
    throw new DemoUsageError(`--sites: ${file} cannot be read`);
  });
  const splits = parsedJson(text);
  if (!Value.Check(SplitsFile, splits))
    throw new DemoUsageError(`--sites: ${file} is not JSON with a member federations`);
  const federation = Object.hasOwn(splits.federations, name) ? splits.federations[name] : undefined;
  if (federation === undefined)
    throw new DemoUsageError(
      `--sites: ${file} has no federation ${name}; it has ${Object.keys(splits.federations).join(", ")}`,
    );
  if (!Value.Check(FederationEntry, federation))
    throw new DemoUsageError(
      `--sites: the federation ${name} must give each hospital a list of cases, or lists train and test`,
    );
  return Object.entries(federation.sites).map(([site, entry]) => {
    if (Array.isArray(entry)) return [site, lastFifth(entry)];
    const [all, test] = "train" in entry ? [entry.train, entry.test] : [entry.training, entry.validation];
    return [site, test ? { training: all, validation: test } : lastFifth(all)];
  });
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
