// The dataset.json of nnU-Net ({"liver": 1}) and of the Medical Segmentation Decathlon ({"1": "liver"}). Only labels
// and channels are used; everything else in the file is ignored.

import { open } from "node:fs/promises";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { FolderError } from "./folder-error.ts";
import type { Modality } from "./study-source.ts";

const DATASET_JSON_BYTES_MAX = 8 * 2 ** 20;
const LABEL_MAX = 255;
const LABEL_NAME_LENGTH_MAX = 200;

const strict = { additionalProperties: false } as const; // Keys outside the pattern are faults, not extras.
const Digits = Type.String({ pattern: "^[0-9]{1,3}$" });
const Channels = Type.Record(Digits, Type.String({ maxLength: 200 }), strict);
const NnunetLabels = Type.Record(
  Type.String({ minLength: 1, maxLength: LABEL_NAME_LENGTH_MAX }),
  Type.Integer({ minimum: 0, maximum: LABEL_MAX }),
  strict,
);
const DecathlonLabels = Type.Record(
  Digits,
  Type.String({ minLength: 1, maxLength: LABEL_NAME_LENGTH_MAX }),
  strict,
);

const DatasetJson = Type.Object({
  channel_names: Type.Optional(Channels),
  modality: Type.Optional(Channels),
  labels: Type.Union([NnunetLabels, DecathlonLabels]),
});

export interface DatasetDescription {
  /** Without background. */
  readonly labelNames: ReadonlyMap<number, string>;
  readonly modality: Modality | null;
}

/** Null where the file does not exist. @throws FolderError folder.dataset.invalid, folder.channels. */
export async function readDatasetJson(path: string): Promise<DatasetDescription | null> {
  const text = await readText(path);
  return text === null ? null : parseDatasetJson(text);
}

/** @throws FolderError folder.dataset.invalid, folder.channels. */
export function parseDatasetJson(text: string): DatasetDescription {
  const json = parseJson(text);
  if (!Value.Check(DatasetJson, json)) throw new FolderError("folder.dataset.invalid");
  const channels = Object.values(json.channel_names ?? json.modality ?? {});
  if (channels.length > 1) throw new FolderError("folder.channels");
  return { labelNames: labelNames(json.labels), modality: modalityOf(channels[0]) };
}

async function readText(path: string): Promise<string | null> {
  try {
    await using file = await open(path, "r");
    const status = await file.stat();
    if (status.size > DATASET_JSON_BYTES_MAX) throw new FolderError("folder.dataset.invalid");
    return await file.readFile("utf8");
  } catch (cause) {
    if (cause instanceof FolderError) throw cause;
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return null;
    throw new FolderError("folder.dataset.invalid", { cause });
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new FolderError("folder.dataset.invalid"); // The parser's message quotes the file: it is not passed on.
  }
}

function labelNames(labels: Static<typeof DatasetJson>["labels"]): ReadonlyMap<number, string> {
  const pairs = Object.entries(labels).map(([key, value]): [number, string] =>
    typeof value === "number" ? [value, key] : [Number(key), value],
  );
  const isValid =
    pairs.every(([label]) => label <= LABEL_MAX) &&
    new Set(pairs.map(([label]) => label)).size === pairs.length;
  if (!isValid) throw new FolderError("folder.dataset.invalid");
  return new Map(pairs.filter(([label]) => label > 0).sort(([a], [b]) => a - b));
}

function modalityOf(channel: string | undefined): Modality | null {
  if (channel === undefined) return null;
  const isCt = /\bct\b/i.test(channel);
  const isMr = /\bmri?\b|^t[12]|flair/i.test(channel);
  if (isCt && isMr) return "mixed";
  if (isCt) return "CT";
  return isMr ? "MR" : null;
}
