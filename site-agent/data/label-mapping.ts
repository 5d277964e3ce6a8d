// From the label numbers of a site's files to those of the study, by name where the data set states names and by number
// where it does not. What the study does not ask for becomes background; what the site does not know is missing there.

import type { Labelmap } from "./volume.ts";
import { makeLabelmap } from "./volume.ts";

export interface StudyLabel {
  readonly id: number;
  readonly name: string;
}

export interface LabelMapping {
  /** Study label for each of the 256 numbers in a file; 0 where the study has none. */
  readonly studyLabels: Uint8Array;
  /** Study labels that the data set does not name. They count as not contoured. */
  readonly missing: readonly number[];
}

/** @param siteNames the data set's names by number, null where it states none. */
export function matchLabels(
  siteNames: ReadonlyMap<number, string> | null,
  study: readonly StudyLabel[],
): LabelMapping {
  const studyLabels = new Uint8Array(256);
  if (siteNames === null) {
    for (const { id } of study) studyLabels[id] = id;
    return { studyLabels, missing: [] };
  }
  const numbers = new Map([...siteNames].map(([number, name]) => [plainName(name), number]));
  const missing: number[] = [];
  for (const { id, name } of study) {
    const number = numbers.get(plainName(name));
    if (number === undefined) missing.push(id);
    else studyLabels[number] = id;
  }
  return { studyLabels, missing };
}

/** The same map with the study's numbers. */
export function mapLabels(labelmap: Labelmap, { studyLabels }: LabelMapping): Labelmap {
  return makeLabelmap(
    labelmap.grid,
    labelmap.voxels.map((label) => studyLabels[label] ?? 0),
  );
}

/** "Left Kidney", "left-kidney" and "left_kidney" are one name. */
function plainName(name: string): string {
  return name.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "_");
}
