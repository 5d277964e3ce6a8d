// The job of a round: the approved plan, the checked base version, this site's slices; training; the delta through the
// protect stage and under seal. What comes out is on the disk before anybody hears of it.

import type { SiteEvent } from "@consilium/shared/protocol/site-session.ts";
import type { JobControl, RoundOffer } from "../agent.ts";
import { protect } from "../privacy/protect.ts";
import { sealUpdate } from "../transport/seal.ts";
import { expectRecipe } from "./checked-documents.ts";
import { ProgressPace } from "./progress-pace.ts";
import type { SiteCohort } from "./site-cohort.ts";
import { type ApprovedStudy, approvedCohort, approvedStudy, type SitePorts } from "./site-ports.ts";
import { StudyError } from "./study-error.ts";
import { roundSeed, runTraining, type TrainingOutcome } from "./training-run.ts";
import { readWeights } from "./weights-file.ts";

export async function trainRound(
  ports: SitePorts,
  offer: RoundOffer,
  control: JobControl,
): Promise<Extract<SiteEvent, { kind: "trained" }>> {
  const { study, round, plan: digest, base } = offer;
  const tellPhase = (
    phase: "fetching" | "training",
    step: number,
    steps: number,
    loss: number | null,
  ): void => control.progress({ kind: "progress", study, round, phase, step, steps, loss, dice: null });
  const approved = await approvedStudy(ports, study, digest);
  const { plan } = approved;
  await ports.blobs.prune(new Set([...ports.owedBlobs(), base.weights.sha256]));
  tellPhase("fetching", 0, plan.training.stepsPerRound, null);
  const version = await ports.materials.version(plan, base, control.signal);
  const cohort = await approvedCohort(ports, approved);
  if (cohort.training.length === 0) throw new StudyError("cohort.empty");
  const backend = await ports.backend();
  control.signal.throwIfAborted();
  const steps = plan.training.stepsPerRound;
  const pace = new ProgressPace(ports.clock);
  const outcome = await runTraining({
    plan,
    base: readWeights(version.weights, expectRecipe(plan).parameters(plan.recipe.config)),
    cases: cohort.training,
    seed: roundSeed(plan.training.seed, ports.identity.site, round),
    steps,
    schedule: {
      stepsBefore: Math.min(offer.completedRounds, plan.rounds.count - 1) * steps,
      stepsInAll: plan.rounds.count * steps,
    },
    onStep: (step, loss) => {
      if (pace.isDue(step, steps)) tellPhase("training", step, steps, loss);
    },
    signal: control.signal,
    onWarning: ({ code }) => ports.tell({ kind: "graph.refused", code }),
  });
  return sealed(ports, { offer, approved, cohort, outcome, backend });
}

type Trained = {
  readonly offer: RoundOffer;
  readonly approved: ApprovedStudy;
  readonly cohort: SiteCohort;
  readonly outcome: TrainingOutcome;
  readonly backend: Awaited<ReturnType<SitePorts["backend"]>>;
};

async function sealed(
  { identity, blobs }: SitePorts,
  { offer, approved, cohort, outcome, backend }: Trained,
): Promise<Extract<SiteEvent, { kind: "trained" }>> {
  const { study, round, plan: digest, base } = offer;
  const { plan, approval } = approved;
  const delta = protect(outcome.delta, expectRecipe(plan).trainable(plan.recipe.config), plan.protection);
  const account = {
    study,
    plan: digest,
    round,
    baseVersion: base.version,
    // Cases that were added since do not count for more than what the hospital has approved.
    examples: Math.min(cohort.training.length, approval.statement.examples),
    steps: plan.training.stepsPerRound,
    loss: outcome.loss,
    backend,
  };
  const { envelope, tensors } = sealUpdate(delta, account, identity);
  await blobs.write(tensors.bytes);
  return { kind: "trained", study, round, delta: tensors.sha256, bytes: tensors.bytes.length, envelope };
}
