// What a study plan asks of a hospital, in words: labels, work, and above all what leaves the house and in which form.
// It says nothing that does not follow from the plan.

import { parameterCount } from "@consilium/shared/model/parameter-manifest.ts";
import { planDigest, type StudyPlan } from "@consilium/shared/model/study-plan.ts";
import { expectRecipe } from "../work/checked-documents.ts";

export type PlanSummary = {
  readonly study: string;
  readonly title: string;
  readonly plan: string;
  readonly labels: readonly string[];
  readonly sites: readonly string[];
  readonly recipe: string;
  readonly rounds: number;
  readonly quorum: number;
  readonly stepsPerRound: number;
  readonly batchSize: number;
  /** Numbers in one update, and its size as a file without its header. */
  readonly updateParameters: number;
  readonly updateBytes: number;
  readonly clipNormL2: number;
  readonly updateDays: number | null;
};

/** @throws StudyError `plan.unsuitable` */
export function summarise(plan: StudyPlan): PlanSummary {
  const updateParameters = parameterCount(expectRecipe(plan).trainable(plan.recipe.config));
  return {
    study: plan.study,
    title: plan.title,
    plan: planDigest(plan),
    labels: plan.labels.map(({ name }) => name),
    sites: plan.sites,
    recipe: `${plan.recipe.id} ${plan.recipe.version}`,
    rounds: plan.rounds.count,
    quorum: plan.rounds.quorum,
    stepsPerRound: plan.training.stepsPerRound,
    batchSize: plan.training.batchSize,
    updateParameters,
    updateBytes: updateParameters * Float32Array.BYTES_PER_ELEMENT,
    clipNormL2: plan.protection.normL2,
    updateDays: plan.retention.updateDays,
  };
}

export function summaryLines(summary: PlanSummary): string[] {
  const { rounds, stepsPerRound, batchSize, quorum, sites, updateDays } = summary;
  const samples = summary.recipe.startsWith("rfmedsam2 ") ? "clips of slices" : "slices";
  const kept = updateDays === null ? "for ever" : `until ${updateDays} days after the study has finished`;
  return [
    `Study     ${summary.study}: ${summary.title}`,
    `Plan      ${summary.plan}`,
    `Labels    ${summary.labels.join(", ")}`,
    `Sites     ${sites.join(", ")}; a round needs ${quorum} of them`,
    `Work      ${summary.recipe}: up to ${rounds} rounds of ${stepsPerRound} steps with ${batchSize} ${samples} each`,
    "What leaves the house:",
    "  - once: this approval, signed, with the number of training cases and the name of who approved",
    `  - each round: one update of ${summary.updateParameters} numbers (${summary.updateBytes} bytes), the change of the`,
    "    model's weights, as float32 tensors in a safetensors file; its L2 norm is clipped to",
    `    ${summary.clipNormL2}. Clipping bounds this site's influence and is not differential privacy.`,
    "  - each round: a signed statement with steps, first and last loss, norms and the compute backend",
    '  - each version: mean scores per label over the validation cases; counts from 1 to 4 as "<5";',
    "    where there is only one validation case, its score",
    "  - while working: step numbers and the loss",
    "What never leaves: images, label maps, file names, names of cases, voxels.",
    `The coordinator keeps updates ${kept}. Every byte sent is in the ledger: consilium-site ledger.`,
  ];
}
