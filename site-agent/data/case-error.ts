// Why one case of a folder was refused. A case is only ever named by its number in the list.

import type { NiftiErrorCode } from "./nifti-error.ts";

const REMEDIES = {
  "case.grid.mismatch": "image and label lie on different grids; resample the label to its image",
  "case.link.outside": "the file is a link that leaves the folder; copy the data into it",
  "case.unknown": "there is no such case in this folder",
} as const;

export type CaseErrorCode = keyof typeof REMEDIES;

/** Everything that can be wrong with one case. */
export type RefusalCode = CaseErrorCode | NiftiErrorCode;

export class CaseError extends Error {
  override name = "CaseError";
  readonly code: CaseErrorCode;

  constructor(code: CaseErrorCode) {
    super(REMEDIES[code]);
    this.code = code;
  }
}
