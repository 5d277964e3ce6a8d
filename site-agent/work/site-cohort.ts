// The cases that a site brings to a study, prepared under its plan and kept in memory between rounds, up to a bound.
// Only the newest study's cases are kept. Names of cases stay in the data selection; here they are numbers.

import type { Sha256 } from "@consilium/shared/base/brand.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { type CohortSplit, splitCohort } from "../data/cohort.ts";
import { type FolderSource, openFolder } from "../data/folder-source.ts";
import type { Grid } from "../data/grid.ts";
import type { CaseId, StudySource } from "../data/study-source.ts";
import { preparedGeometry } from "../preprocessing/prepare.ts";
import { type CohortCase, type PreparedCohort, prepareCohort } from "../preprocessing/prepare-cohort.ts";
import { planeSize } from "../preprocessing/slice-stack.ts";
import type { DataSelection } from "./approvals.ts";
import { StudyError } from "./study-error.ts";

export type SiteCohort = {
  readonly source: FolderSource;
  readonly training: readonly CohortCase[];
  readonly validation: readonly CohortCase[];
  readonly refused: PreparedCohort["refused"];
};

export type SelectedCases = {
  readonly source: FolderSource;
  readonly training: readonly CaseId[];
  readonly validation: readonly CaseId[];
};

/** The labelled cases of a selection, split. Opens no image. @throws FolderError, StudyError */
export async function selectCases({ folder, cases, validation }: DataSelection): Promise<SelectedCases> {
  const source = await openFolder(folder, cases ? { caseNames: cases } : {});
  const labelled = source.cases.filter(({ hasLabels }) => hasLabels).map(({ id }) => id);
  const split = validation ? explicitSplit(source, labelled, validation) : ({ kind: "lastFifth" } as const);
  return { source, ...splitCohort(labelled, split) };
}

function explicitSplit(
  source: FolderSource,
  labelled: readonly CaseId[],
  names: readonly string[],
): CohortSplit {
  const byName = new Map(labelled.map((id) => [source.localName(id), id]));
  const validation = names.map((name) => byName.get(name));
  const isKnown = validation.every((id) => id !== undefined);
  if (!isKnown) throw new StudyError("cohort.split-malformed");
  return { kind: "explicit", validation };
}

/** @throws FolderError, StudyError */
export async function loadCohort(
  data: DataSelection,
  plan: StudyPlan,
  { bytesMax }: { bytesMax: number },
): Promise<SiteCohort> {
  const { source, training, validation } = await selectCases(data);
  const bounded = boundedSource(source, plan, bytesMax);
  const { cases, refused } = await prepareCohort(bounded, plan);
  const among = (ids: readonly CaseId[]): CohortCase[] => {
    const wanted = new Set(ids);
    return cases.filter(({ id }) => wanted.has(id));
  };
  return { source, training: among(training), validation: among(validation), refused };
}

/** Counts what each case will take before it is prepared. */
function boundedSource(source: FolderSource, plan: StudyPlan, bytesMax: number): StudySource {
  let bytes = 0;
  return {
    ...source,
    open: async (id) => {
      const opened = await source.open(id);
      bytes += preparedBytes(opened.volume.grid, plan);
      if (bytes > bytesMax) throw new StudyError("cohort.too-large");
      return opened;
    },
  };
}

function preparedBytes(grid: Grid, { preprocessing }: StudyPlan): number {
  const { stack } = preparedGeometry(grid, preprocessing);
  const { sliceCount } = planeSize(stack.shape, stack.sliceAxis);
  const channels = 1 + 2 * preprocessing.contextSlices;
  return sliceCount * stack.height * stack.width * (channels * Float32Array.BYTES_PER_ELEMENT + 1);
}

export class CohortMemory {
  readonly #bytesMax: number;
  #kept: { readonly key: string; readonly cohort: SiteCohort } | null = null;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** The prepared cohort of an approved plan; `onLoaded` hears of it when it had to be read. */
  async cohort(
    { plan, digest, data }: { plan: StudyPlan; digest: Sha256; data: DataSelection },
    onLoaded: (cohort: SiteCohort) => void,
  ): Promise<SiteCohort> {
    const key = JSON.stringify([digest, data]);
    if (this.#kept?.key === key) return this.#kept.cohort;
    this.#kept = null; // Let go of before the next one is read: two would not fit.
    const cohort = await loadCohort(data, plan, { bytesMax: this.#bytesMax });
    this.#kept = { key, cohort };
    onLoaded(cohort);
    return cohort;
  }
}
