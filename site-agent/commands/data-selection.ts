// From --data, --cases and --split to a selection of cases. A split file is JSON: `{"cases": [...]}` chooses cases and
// their order, `{"training": [...], "validation": [...]}` also says which of them validate.

import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import type { DataSelection } from "../work/approvals.ts";
import { StudyError } from "../work/study-error.ts";

const splitFileBytesMax = 8 * 2 ** 20;
const Names = Type.Array(Type.String({ minLength: 1, maxLength: 1000 }), { minItems: 1, maxItems: 20_000 });
const SplitFile = Type.Union([
  Type.Object({ cases: Names }, { additionalProperties: false }),
  Type.Object({ training: Names, validation: Names }, { additionalProperties: false }),
]);

/** @param split `last-fifth`, or a file. @throws StudyError `cohort.split-malformed` */
export async function dataSelection(folder: string, split: string): Promise<DataSelection> {
  const everything = { folder: resolve(folder), cases: null, validation: null };
  if (split === "last-fifth") return everything;
  const file = await readSplitFile(split);
  if ("cases" in file) return { ...everything, cases: file.cases };
  return {
    ...everything,
    cases: [...file.training, ...file.validation],
    validation: file.validation,
  };
}

async function readSplitFile(path: string): Promise<Static<typeof SplitFile>> {
  try {
    const text = await readFile(path, "utf8");
    const value: unknown = text.length > splitFileBytesMax ? null : JSON.parse(text);
    if (Value.Check(SplitFile, value)) return value;
  } catch (cause) {
    throw new StudyError("cohort.split-malformed", { cause });
  }
  throw new StudyError("cohort.split-malformed");
}
