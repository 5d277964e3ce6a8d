// The job of an evaluation: a candidate version on this site's validation cases, brought down to the means that a site
// may report, and signed.

import { seal } from "@consilium/shared/crypto/envelope.ts";
import { EvaluationDocument } from "@consilium/shared/protocol/documents.ts";
import type { SiteEvent } from "@consilium/shared/protocol/site-session.ts";
import type { EvaluationOffer, JobControl } from "../agent.ts";
import { evaluationReport } from "../evaluation/evaluate-cohort.ts";
import { expectRecipe } from "./checked-documents.ts";
import { ProgressPace } from "./progress-pace.ts";
import { type CaseScores, scopeOf, scoreCases } from "./score-version.ts";
import { segmenterOf } from "./segmenter.ts";
import { type ApprovedStudy, approvedCohort, approvedStudy, type SitePorts } from "./site-ports.ts";
import { readWeights } from "./weights-file.ts";

export async function evaluateVersion(
  ports: SitePorts,
  offer: EvaluationOffer,
  control: JobControl,
): Promise<Extract<SiteEvent, { kind: "evaluated" }>> {
  const { study, plan: digest, candidate } = offer;
  const approved = await approvedStudy(ports, study, digest);
  const cases = await scored(ports, { approved, offer, control });
  const { plan } = approved;
  const report = evaluationReport({
    scope: scopeOf(plan),
    cases: cases.map(({ scores }) => scores),
    labels: plan.labels.map(({ id }) => id),
  });
  const { origin, site, key } = ports.identity;
  const statement = { origin, site, study, plan: digest, version: candidate.version, report };
  return {
    kind: "evaluated",
    study,
    version: candidate.version,
    envelope: seal(EvaluationDocument, statement, key),
  };
}

type Evaluating = {
  readonly approved: ApprovedStudy;
  readonly offer: EvaluationOffer;
  readonly control: JobControl;
};

async function scored(ports: SitePorts, { approved, offer, control }: Evaluating): Promise<CaseScores[]> {
  const { plan } = approved;
  const version = await ports.materials.version(plan, offer.candidate, control.signal);
  const cohort = await approvedCohort(ports, approved);
  await ports.backend();
  const weights = readWeights(version.weights, expectRecipe(plan).parameters(plan.recipe.config));
  const segmenter = segmenterOf(plan, weights);
  const pace = new ProgressPace(ports.clock);
  const { signal, round } = control;
  try {
    return await scoreCases({
      plan,
      cohort,
      segmenter,
      signal,
      onCase: (step, steps) => {
        if (!pace.isDue(step, steps)) return;
        const progress = { kind: "progress", study: offer.study, round, phase: "evaluating" } as const;
        control.progress({ ...progress, step, steps, loss: null, dice: null });
      },
    });
  } finally {
    segmenter.dispose();
  }
}
