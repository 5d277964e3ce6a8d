// One data set as a study of two phases under one plan: first the prompter is trained, then, with the prompter frozen,
// the adapters. Both plans have the same tensors; they differ in what an update holds and in the length of training.

import { join } from "node:path";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { type SiteId, sha256, siteId, studyId } from "@consilium/shared/base/brand.ts";
import type { CohortFingerprint } from "@consilium/shared/model/cohort-fingerprint.ts";
import { draftPlan, type PlanDraft } from "@consilium/shared/model/draft-plan.ts";
import { parseRfmedsam2Config, type Rfmedsam2Config } from "@consilium/shared/model/rfmedsam2.ts";
import {
  initialRfmedsam2Weights,
  type Rfmedsam2Part,
  rfmedsam2Parameters,
} from "@consilium/shared/model/rfmedsam2-parameters.ts";
import { sam2Parameters } from "@consilium/shared/model/sam2-parameters.ts";
import { sam2Variants } from "@consilium/shared/model/sam2-variants.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { openCheckpoint } from "../../site-agent/checkpoint/open-checkpoint.ts";
import { cohortReport } from "../../site-agent/commands/cohort-report.ts";
import { PRETRAINED_MICRO_FILE } from "../../site-agent/pretraining/pretrained-checkpoint.ts";
import type { WeightValues } from "../../site-agent/work/weights-file.ts";
import { type EvidenceSet, type HospitalCases, hospitalsOf } from "./data-sets.ts";

export const PHASES = ["prompter", "adapters"] as const;
export type Phase = (typeof PHASES)[number];

export type EvidenceStudy = {
  readonly set: EvidenceSet;
  readonly seed: number;
  readonly folder: string;
  readonly hospitals: readonly HospitalCases[];
  /** A plan is a draft here: no coordinator opens it. */
  readonly plans: Readonly<Record<Phase, StudyPlan>>;
};

export type EvidenceOptions = { readonly set: EvidenceSet; readonly seed: number; readonly data: string };

/** Opens every training case once for its fingerprint. */
export async function evidenceStudy({ set, seed, data }: EvidenceOptions): Promise<EvidenceStudy> {
  const folder = join(data, set.folder);
  const hospitals = await hospitalsOf(set, data);
  const sites: { site: SiteId; fingerprint: CohortFingerprint }[] = [];
  for (const { site, training } of hospitals) {
    const { fingerprint } = await cohortReport({ folder, cases: [...training], validation: null }, null);
    sites.push({
      site: siteId(site),
      fingerprint: expectDefined(fingerprint ?? undefined, `images of ${site}`),
    });
  }
  const plan = (phase: Phase): StudyPlan => {
    const { rounds, steps } = set[phase];
    const draft = draftPlan({
      ...{ study: studyId(set.name), title: set.name, sites, size: "medium", seed, rounds },
      ...{ stepsPerRound: steps, partialLabels: set.partialLabels },
      labels: set.labels.map((name, index) => ({ id: index + 1, name })),
      batchSize: phase === "prompter" ? set.prompter.slices : 1,
      refinement: {
        ...{ variant: "pretrained-micro", imageSize: set.imageSize, trains: phase },
        decoderRateShare: set.decoderRateShare,
        ...(set.windowHu && { windowHu: set.windowHu }),
      },
    });
    const preprocessing = { ...draft.preprocessing, ...set.preprocessing };
    return undrafted({ ...draft, preprocessing, recipe: refinedAs(draft.recipe, set) });
  };
  return { set, seed, folder, hospitals, plans: { prompter: plan("prompter"), adapters: plan("adapters") } };
}

function refinedAs(
  recipe: PlanDraft["recipe"],
  { clipSlices, secondMask }: EvidenceSet,
): PlanDraft["recipe"] {
  const config = parseRfmedsam2Config(recipe.config);
  return { ...recipe, config: { ...config, refinement: { ...config.refinement, clipSlices, secondMask } } };
}

const NO_DIGEST = sha256("0".repeat(64));

function undrafted(draft: PlanDraft): StudyPlan {
  const plan = { ...draft, startVersion: NO_DIGEST, parameterManifest: NO_DIGEST };
  return plan as unknown as StudyPlan; // Ids are branded strings.
}

export function configOf(plan: StudyPlan): Rfmedsam2Config {
  return parseRfmedsam2Config(plan.recipe.config);
}

export function parametersOf(plan: StudyPlan): ReturnType<typeof rfmedsam2Parameters> {
  return rfmedsam2Parameters(configOf(plan));
}

/** The pretrained SAM 2.1 of the repository, and a prompter and adapters from the seed. */
export async function startWeights({ plans, seed }: EvidenceStudy): Promise<WeightValues> {
  const weights = new Map(initialRfmedsam2Weights(configOf(plans.adapters), seed));
  const expected = sam2Parameters(sam2Variants["pretrained-micro"]);
  const checkpoint = await openCheckpoint(PRETRAINED_MICRO_FILE, { expected });
  try {
    for (const { name } of expected)
      weights.set(`sam2.${name}`, expectDefined(checkpoint.tensors.get(name), name).read());
  } finally {
    checkpoint.close();
  }
  return weights;
}

/** The same with some parts as they start; adapters change nothing then. */
export function withoutTrained(
  parts: readonly Rfmedsam2Part[],
  weights: WeightValues,
  start: WeightValues,
): WeightValues {
  return new Map(
    [...weights].map(([name, values]) => [
      name,
      parts.some((part) => name.startsWith(`${part}.`)) ? expectDefined(start.get(name), name) : values,
    ]),
  );
}
