// The job of an evaluation: a candidate version on this site's validation cases, brought down to the means that a site
// may report, and signed.

import { seal } from "@consilium/shared/crypto/envelope.ts";
import { EvaluationDocument } from "@consilium/shared/protocol/documents.ts";
import type { SiteEvent } from "@consilium/shared/protocol/site-session.ts";
import type { EvaluationOffer, JobControl } from "../agent.ts";
import type { Scored } from "../compute/compute.ts";
import { evaluationReport } from "../evaluation/evaluate-cohort.ts";
import { ProgressPace } from "./progress-pace.ts";
import { type ApprovedStudy, approvedStudy, type SitePorts, tellNews } from "./site-ports.ts";

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
    scope: plan.evaluation.slicesPerCase === null ? "volumes" : "slices",
    cases,
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

async function scored(ports: SitePorts, { approved, offer, control }: Evaluating): Promise<Scored> {
  const { plan, digest, approval } = approved;
  const { signal, round } = control;
  const { weights } = await ports.materials.version(plan, offer.candidate, signal);
  const pace = new ProgressPace(ports.clock);
  return ports.compute.score(
    { plan, digest, weights, data: approval.data },
    {
      signal,
      hear: (news) => {
        if (news.kind !== "step") return tellNews(ports, news);
        const { step, steps } = news;
        if (!pace.isDue(step, steps)) return;
        const progress = { kind: "progress", study: offer.study, round, phase: "evaluating" } as const;
        control.progress({ ...progress, step, steps, loss: null, dice: null });
      },
    },
  );
}
