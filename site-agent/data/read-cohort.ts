// Going through the cases of a source one at a time. A case that cannot be read is skipped and reported by its number
// and a code; only when they are many is the whole folder refused. No more than one volume is held here.

import { CaseError, type RefusalCode } from "./case-error.ts";
import { FolderError } from "./folder-error.ts";
import { NiftiError } from "./nifti-error.ts";
import type { OpenedCase, StudySource } from "./study-source.ts";

/** A folder is refused when more than this share of its cases cannot be read: 20 %. */
const UNREADABLE_SHARE_MAX = 0.2;

export interface RefusedCase {
  /** Place in the list, from 1. */
  readonly number: number;
  readonly code: RefusalCode;
  readonly remedy: string;
}

export type CaseReading =
  | { readonly kind: "opened"; readonly case: OpenedCase }
  | { readonly kind: "refused"; readonly refusal: RefusedCase };

/** Every case of the source in list order, opened or refused. */
export async function* readCases(source: StudySource): AsyncGenerator<CaseReading> {
  for (const [index, { id }] of source.cases.entries()) {
    try {
      yield { kind: "opened", case: await source.open(id) };
    } catch (error) {
      if (!(error instanceof CaseError || error instanceof NiftiError)) throw error;
      const refusal = { number: index + 1, code: error.code, remedy: error.message };
      yield { kind: "refused", refusal };
    }
  }
}

/**
 * Hands each readable case to `visit` and returns the refused ones.
 * @throws FolderError folder.cases.unreadable when too few cases could be read.
 */
export async function readCohort(
  source: StudySource,
  visit: (opened: OpenedCase) => void | Promise<void>,
): Promise<readonly RefusedCase[]> {
  const refused: RefusedCase[] = [];
  for await (const reading of readCases(source)) {
    if (reading.kind === "opened") await visit(reading.case);
    else refused.push(reading.refusal);
  }
  if (!isReadable(source.cases.length, refused.length)) throw new FolderError("folder.cases.unreadable");
  return refused;
}

/** Whether enough of a folder's cases could be read. */
export function isReadable(caseCount: number, refusedCount: number): boolean {
  return refusedCount < caseCount && refusedCount <= UNREADABLE_SHARE_MAX * caseCount;
}
