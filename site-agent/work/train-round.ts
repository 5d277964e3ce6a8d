// The job of a round: the approved plan, the checked base version, training; the delta through the protect stage and
// under seal. What comes out is on the disk before anybody hears of it.

import type { SiteEvent } from "@consilium/shared/protocol/site-session.ts";
import type { JobControl, RoundOffer } from "../agent.ts";
import type { Trained } from "../compute/compute.ts";
import { protect } from "../privacy/protect.ts";
import { sealUpdate } from "../transport/seal.ts";
import { expectRecipe } from "./checked-documents.ts";
import { ProgressPace } from "./progress-pace.ts";
import { roundSeed } from "./round-seed.ts";
import { type ApprovedStudy, approvedStudy, type SitePorts, tellNews } from "./site-ports.ts";

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
  const { plan, approval } = approved;
  await ports.blobs.prune(new Set([...ports.owedBlobs(), base.weights.sha256]));
  const steps = plan.training.stepsPerRound;
  tellPhase("fetching", 0, steps, null);
  const { weights } = await ports.materials.version(plan, base, control.signal);
  const pace = new ProgressPace(ports.clock);
  const task = {
    ...{ plan, weights, digest: approved.digest, data: approval.data },
    seed: roundSeed(plan.training.seed, ports.identity.site, round),
    schedule: {
      stepsBefore: Math.min(offer.completedRounds, plan.rounds.count - 1) * steps,
      stepsInAll: plan.rounds.count * steps,
    },
  };
  const trained = await ports.compute.train(task, {
    signal: control.signal,
    hear: (news) => {
      if (news.kind !== "step") tellNews(ports, news);
      else if (pace.isDue(news.step, news.steps)) tellPhase("training", news.step, news.steps, news.loss);
    },
  });
  return sealed(ports, { offer, approved, trained });
}

type Round = {
  readonly offer: RoundOffer;
  readonly approved: ApprovedStudy;
  readonly trained: Trained;
};

async function sealed(
  { identity, blobs }: SitePorts,
  { offer, approved, trained }: Round,
): Promise<Extract<SiteEvent, { kind: "trained" }>> {
  const { study, round, plan: digest, base } = offer;
  const { plan, approval } = approved;
  const delta = protect(trained.delta, expectRecipe(plan).trainable(plan.recipe.config), plan.protection);
  const account = {
    study,
    plan: digest,
    round,
    baseVersion: base.version,
    // Cases that were added since do not count for more than what the hospital has approved.
    examples: Math.min(trained.cases, approval.statement.examples),
    steps: plan.training.stepsPerRound,
    loss: trained.loss,
    backend: trained.backend,
  };
  const { envelope, tensors } = sealUpdate(delta, account, identity);
  await blobs.write(tensors.bytes);
  return { kind: "trained", study, round, delta: tensors.sha256, bytes: tensors.bytes.length, envelope };
}
