// What `consilium study open` starts a study from: a seed, a weights file with what its maker says of it, or parts of
// versions that the coordinator has.

import { existsSync, readFileSync } from "node:fs";
import { studyId } from "@consilium/shared/base/brand.ts";
import { StudyAnswer, type StudyBody } from "@consilium/shared/protocol/http.ts";
import { PartName, VersionId } from "@consilium/shared/protocol/names.ts";
import { type PartChoice, Provenance, provenanceFile } from "@consilium/shared/protocol/version-parts.ts";
import type { Static } from "typebox";
import { Value } from "typebox/value";
import type { OperatorClient } from "./operator-client.ts";
import { uploadFile } from "./upload-file.ts";

export type StartOptions = {
  readonly seed?: number;
  /** A weights file; `FILE.provenance.json` beside it goes with it. */
  readonly start?: string;
  /** `PART=STUDY` for the version of a study that is in use, `PART=VERSION`, or `PART=seed:N`. */
  readonly part?: readonly string[];
};

export class StartChoiceError extends Error {
  override name = "StartChoiceError";
}

/** @throws StartChoiceError */
export async function chosenStart(
  { seed, start, part }: StartOptions,
  client: OperatorClient,
): Promise<Static<typeof StudyBody>["start"]> {
  if ([seed, start, part].filter((choice) => choice !== undefined).length > 1)
    throw new StartChoiceError("a study starts from one of --seed, --start and --part");
  if (part) {
    const parts = [];
    for (const entry of part) parts.push(await partChoice(entry, client));
    return { kind: "composed", parts };
  }
  if (start === undefined) return { kind: "seeded", seed: seed ?? 1 };
  const provenance = readProvenance(provenanceFile(start));
  const sha256 = await uploadFile(client, start);
  return { kind: "imported", sha256, ...(provenance && { provenance }) };
}

function readProvenance(file: string): Provenance | null {
  if (!existsSync(file)) return null;
  const value: unknown = JSON.parse(readFileSync(file, "utf8"));
  if (!Value.Check(Provenance, value))
    throw new StartChoiceError(`${file} is not a provenance as consilium-site start-model writes it`);
  return value;
}

async function partChoice(entry: string, client: OperatorClient): Promise<PartChoice> {
  const [part = "", source = ""] = entry.split(/=(.*)/s);
  if (!Value.Check(PartName, part))
    throw new StartChoiceError("--part names prompter, sam2 or adapters, as in prompter=STUDY");
  const seed = /^seed:(\d{1,10})$/.exec(source)?.[1];
  if (seed !== undefined) return { part, from: { kind: "seeded", seed: Number(seed) } };
  if (Value.Check(VersionId, source)) return { part, from: { kind: "version", version: source } };
  const study = studyId(source);
  const { released } = await client.get(`/v1/studies/${study}`, StudyAnswer);
  if (released === null)
    throw new StartChoiceError(`no version of ${study} is in use: release one, or name a version`);
  return { part, from: { kind: "version", version: released } };
}
