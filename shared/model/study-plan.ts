// The study plan: everything that must agree between the sites of a study, in one document with one digest. The
// coordinator signs it, each hospital approves exactly it, and a site trains under nothing else.

import { type Static, Type } from "typebox";
import type { Sha256 } from "../base/brand.ts";
import { documentDigest } from "../crypto/digest.ts";
import { documentType } from "../crypto/envelope.ts";
import {
  labelsPerStudyMax,
  roundDurationMsMax,
  roundsPerStudyMax,
  sitesPerStudyMax,
} from "../protocol/limits.ts";
import { Digest, Positive, ShortText, SiteName, StudyName, VersionId } from "../protocol/names.ts";
import { PreprocessingPlan } from "./preprocessing-plan.ts";

const strict = { additionalProperties: false } as const;
const Fraction = Type.Number({ minimum: 0, maximum: 1 });

/** One organ or structure. Id 0 is background and is never listed. */
export const PlanLabel = Type.Object(
  { id: Type.Integer({ minimum: 1, maximum: 255 }), name: ShortText },
  strict,
);

/** Local optimisation at a site in one round. */
export const TrainingPlan = Type.Object(
  {
    stepsPerRound: Type.Integer({ minimum: 1, maximum: 1_000_000 }),
    batchSize: Type.Integer({ minimum: 1, maximum: 1024 }),
    learningRate: Type.Number({ exclusiveMinimum: 0, maximum: 1 }),
    weightDecay: Type.Number({ minimum: 0, maximum: 1 }),
    /** L2 norm to which each step's gradient is clipped. */
    gradientNormL2Max: Type.Number({ exclusiveMinimum: 0, maximum: 1e6 }),
    schedule: Type.Union([Type.Literal("polynomial"), Type.Literal("cosine")]),
    warmupSteps: Type.Integer({ minimum: 0, maximum: 1_000_000 }),
    augmentation: Type.Union([Type.Literal("none"), Type.Literal("nnunet")]),
    /** Axes of the slice plane that may be mirrored; none where left and right are different labels. */
    mirrorAxes: Type.Array(Type.Union([Type.Literal("row"), Type.Literal("column")]), { maxItems: 2 }),
    seed: Type.Integer({ minimum: 0, maximum: 0xffffffff }),
  },
  strict,
);
export type TrainingPlan = Static<typeof TrainingPlan>;

export const RoundsPlan = Type.Object(
  {
    count: Type.Integer({ minimum: 1, maximum: roundsPerStudyMax }),
    /** Updates without which a round makes no version. One site alone is no federation. */
    quorum: Type.Integer({ minimum: 2, maximum: sitesPerStudyMax }),
    /** How long the first round waits for the approval of every site before a quorum is enough. */
    recruitmentMs: Type.Integer({ minimum: 1000, maximum: roundDurationMsMax }),
    trainingMs: Type.Integer({ minimum: 1000, maximum: roundDurationMsMax }),
    evaluationMs: Type.Integer({ minimum: 1000, maximum: roundDurationMsMax }),
    abandonedInARowMax: Type.Integer({ minimum: 1, maximum: 1000 }),
  },
  strict,
);

/** A version is promoted to best when the mean over sites gains enough and no site loses too much. */
export const AcceptanceRule = Type.Object(
  { metric: Type.Literal("mean-dice"), minGain: Fraction, siteDropMax: Fraction },
  strict,
);

export const StudyPlan = Type.Object(
  {
    study: StudyName,
    title: ShortText,
    labels: Type.Array(PlanLabel, { minItems: 1, maxItems: labelsPerStudyMax }),
    partialLabels: Type.Union([Type.Literal("per-site"), Type.Literal("per-case")]),
    recipe: Type.Object(
      {
        id: Type.String({ pattern: "^[a-z0-9-]{1,40}$" }),
        version: Positive,
        config: Type.Record(Type.String(), Type.Unknown()),
      },
      strict,
    ),
    startVersion: VersionId,
    /** Digest of the ordered list of tensors that an update holds. */
    parameterManifest: Digest,
    preprocessing: PreprocessingPlan,
    training: TrainingPlan,
    rounds: RoundsPlan,
    sites: Type.Array(SiteName, { minItems: 2, maxItems: sitesPerStudyMax, uniqueItems: true }),
    aggregation: Type.Object(
      {
        rule: Type.Literal("fedavg"),
        weighting: Type.Literal("examples"),
        /** No site counts for more than this many examples. */
        examplesPerSiteMax: Positive,
      },
      strict,
    ),
    protection: Type.Object(
      { kind: Type.Literal("clip"), normL2: Type.Number({ exclusiveMinimum: 0, maximum: 1e9 }) },
      strict,
    ),
    acceptance: AcceptanceRule,
    evaluation: Type.Object(
      {
        /** Slices of each validation case that a round's evaluation looks at, evenly spread; null for all. */
        slicesPerCase: Type.Union([Positive, Type.Null()]),
      },
      strict,
    ),
    retention: Type.Object(
      {
        /** Days after which the tensors of a finished study's updates are deleted; null keeps them for ever. */
        updateDays: Type.Union([Type.Integer({ minimum: 0, maximum: 36_500 }), Type.Null()]),
      },
      strict,
    ),
  },
  strict,
);
export type StudyPlan = Static<typeof StudyPlan>;

export const StudyPlanDocument = documentType("study-plan", StudyPlan);

/** What a hospital approves and every update names. */
export function planDigest(plan: StudyPlan): Sha256 {
  return documentDigest("plan", plan as never); // The schema describes JSON.
}

/** Faults that the schema cannot say, all at once. */
export function planFaults(plan: StudyPlan): string[] {
  const faults: string[] = [];
  if (plan.rounds.quorum > plan.sites.length) faults.push("rounds.quorum: larger than the number of sites");
  const ids = plan.labels.map((label) => label.id);
  if (new Set(ids).size !== ids.length) faults.push("labels: an id occurs twice");
  if (new Set(plan.labels.map((label) => label.name)).size !== ids.length)
    faults.push("labels: a name occurs twice");
  if ([...plan.sites].sort().join() !== plan.sites.join())
    faults.push("sites: must be in alphabetical order");
  return faults;
}
