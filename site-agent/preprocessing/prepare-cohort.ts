// Everything a site's folder gives to training and validation under one study: each labelled case read once, its labels
// given the study's numbers, its slices prepared, and what was not contoured marked as such.

import type { PreprocessingPlan } from "@consilium/shared/model/preprocessing-plan.ts";
import { contouredLabels, type PartialLabelPolicy } from "../data/contoured-labels.ts";
import { type LabelMapping, mapLabels, matchLabels, type StudyLabel } from "../data/label-mapping.ts";
import { type RefusedCase, readCohort } from "../data/read-cohort.ts";
import type { CaseId, OpenedCase, StudySource } from "../data/study-source.ts";
import { type Labelmap, labelsPresent } from "../data/volume.ts";
import { type PreparedCase, prepare } from "./prepare.ts";

/** The parts of a study plan that decide what slices look like. */
export interface StudyView {
  readonly labels: readonly StudyLabel[];
  readonly partialLabels: PartialLabelPolicy;
  readonly preprocessing: PreprocessingPlan;
}

export interface CohortCase {
  readonly id: CaseId;
  readonly prepared: PreparedCase;
  /** Study labels that count in this case. */
  readonly contoured: readonly number[];
}

export interface PreparedCohort {
  /** The labelled cases that could be read, in list order. */
  readonly cases: readonly CohortCase[];
  readonly refused: readonly RefusedCase[];
}

/** @throws FolderError folder.cases.unreadable when too few cases could be read. */
export async function prepareCohort(source: StudySource, study: StudyView): Promise<PreparedCohort> {
  const mapping = matchLabels(source.labelNames, study.labels);
  const rows: { id: CaseId; prepared: PreparedCase; inCase: ReadonlySet<number> }[] = [];
  const refused = await readCohort(source, (opened) => {
    const labelmap = studyLabelmap(opened, mapping);
    if (!labelmap) return;
    const prepared = prepare(opened.volume, { labelmap, contoured: [] }, study.preprocessing);
    rows.push({ id: opened.id, prepared, inCase: new Set(labelsPresent(labelmap)) });
  });
  const atSite = new Set(rows.flatMap(({ inCase }) => [...inCase]));
  const studyLabels = study.labels.map(({ id }) => id);
  const cases = rows.map(({ id, prepared, inCase }): CohortCase => {
    const contoured = contouredLabels({ studyLabels, inCase, atSite }, study.partialLabels);
    const slices = prepared.slices.map((slice) => ({ ...slice, contoured }));
    return { id, prepared: { ...prepared, slices }, contoured };
  });
  return { cases, refused };
}

/** A case's labels with the study's numbers, null where it has none. */
export function studyLabelmap({ labelmap }: OpenedCase, mapping: LabelMapping): Labelmap | null {
  return labelmap && mapLabels(labelmap, mapping);
}
