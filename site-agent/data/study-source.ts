// The port through which everything else sees a site's images: list the cases, open one. It only reads, and it names
// cases by opaque identifiers in list order, so that no file name travels further than this folder.

import type { OrientationSource } from "./nifti-geometry.ts";
import type { NiftiHeader } from "./nifti-header.ts";
import type { Labelmap, Volume } from "./volume.ts";

/** "case-001" is the first of the list. */
export type CaseId = `case-${string}`;

export interface CaseListing {
  readonly id: CaseId;
  readonly hasLabels: boolean;
}

export interface OpenedCase {
  readonly id: CaseId;
  readonly volume: Volume;
  /** Null where the case has an image only. On the volume's grid. */
  readonly labelmap: Labelmap | null;
  /** The image's own header, for writing results on its grid. */
  readonly header: NiftiHeader;
  readonly orientation: OrientationSource;
  readonly replacedVoxels: number;
}

/** `mixed` where some cases are CT and some are MR. */
export type Modality = "CT" | "MR" | "mixed";

export interface StudySource {
  readonly cases: readonly CaseListing[];
  /** Label number to name as the data set states them; null where it states none. */
  readonly labelNames: ReadonlyMap<number, string> | null;
  /** Null where the data set does not say. */
  readonly modality: Modality | null;
  /** @throws CaseError or NiftiError when this case cannot be used. */
  open(id: CaseId): Promise<OpenedCase>;
}

/** @param number 1 for the first case. */
export function caseId(number: number): CaseId {
  return `case-${String(number).padStart(3, "0")}`;
}
