// The voxel-wise atlas of a folder's cases as a predictor, for comparison with a network.

import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { contouredLabels } from "../data/contoured-labels.ts";
import { matchLabels } from "../data/label-mapping.ts";
import type { CaseId, StudySource } from "../data/study-source.ts";
import { labelsPresent } from "../data/volume.ts";
import { type AtlasCase, predictWithAtlas } from "../evaluation/atlas.ts";
import { chooseAtlas } from "../evaluation/choose-atlas.ts";
import { studyLabelmap } from "../preprocessing/prepare-cohort.ts";
import type { Predictor } from "./score-folder.ts";

export type AtlasBaseline = {
  readonly plan: Pick<StudyPlan, "labels" | "partialLabels">;
  readonly source: StudySource;
  /** At least two. */
  readonly cases: readonly CaseId[];
};

export async function atlasPredictor({ plan, source, cases }: AtlasBaseline): Promise<Predictor> {
  const studyLabels = plan.labels.map(({ id }) => id);
  const mapping = matchLabels(source.labelNames, plan.labels);
  const opened: Omit<AtlasCase, "contoured">[] = [];
  for (const id of cases) {
    const one = await source.open(id);
    const labelmap = studyLabelmap(one, mapping);
    if (labelmap) opened.push({ volume: one.volume, labelmap });
  }
  const inCases = opened.map(({ labelmap }) => new Set(labelsPresent(labelmap)));
  const atSite = new Set(inCases.flatMap((labels) => [...labels]));
  const atlasCases = opened.map((one, index): AtlasCase => {
    const inCase = inCases[index] ?? new Set();
    return { ...one, contoured: contouredLabels({ studyLabels, inCase, atSite }, plan.partialLabels) };
  });
  const { atlas } = chooseAtlas(atlasCases, studyLabels);
  return async (volume) => predictWithAtlas(volume, atlas);
}
