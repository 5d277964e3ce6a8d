// What the jobs of a site share: its identity, its study materials, and what computes.

import type { PublicKey, Sha256, StudyId } from "@consilium/shared/base/brand.ts";
import type { Clock } from "@consilium/shared/base/clock.ts";
import type { Envelope } from "@consilium/shared/crypto/envelope.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { Compute, ComputeNews, StartedBackend } from "../compute/compute.ts";
import type { AgentEvent } from "../events.ts";
import type { Home } from "../identity/home.ts";
import type { BlobStore } from "../store/blobs.ts";
import type { CoordinatorClient } from "../transport/coordinator-client.ts";
import type { Patience } from "../transport/patience.ts";
import type { SiteIdentity } from "../transport/session.ts";
import { type Approval, readApproval } from "./approvals.ts";
import { StudyError } from "./study-error.ts";
import type { StudyMaterials } from "./study-materials.ts";

export type SitePorts = {
  readonly home: Home;
  readonly identity: SiteIdentity;
  readonly coordinatorKey: PublicKey;
  readonly client: CoordinatorClient;
  readonly blobs: BlobStore;
  readonly materials: StudyMaterials;
  readonly compute: Compute;
  readonly patience: Patience;
  readonly clock: Clock;
  readonly tell: (event: AgentEvent) => void;
  /** Told of every backend that is started. */
  readonly onBackend: (started: StartedBackend) => void;
  /** Blobs that the journal still needs: updates that are not settled. */
  readonly owedBlobs: () => readonly Sha256[];
};

export type ApprovedStudy = {
  readonly approval: Approval;
  readonly plan: StudyPlan;
  readonly planEnvelope: Envelope;
  readonly digest: Sha256;
};

/**
 * The plan that this hospital approved, and nothing else.
 * @throws StudyError, also when the approval file speaks of another plan than `digest`
 */
export async function approvedStudy(
  { home, identity, materials }: SitePorts,
  study: StudyId,
  digest: Sha256 | null,
): Promise<ApprovedStudy> {
  const approval = await readApproval(home, study, identity);
  if (digest !== null && approval.statement.plan !== digest) throw new StudyError("approval.missing");
  const { plan, envelope } = await materials.plan(study, approval.statement.plan);
  return { approval, plan, planEnvelope: envelope, digest: approval.statement.plan };
}

/** News of a task that are not about its steps. */
export function tellNews(
  { tell, onBackend }: Pick<SitePorts, "tell" | "onBackend">,
  news: Exclude<ComputeNews, { kind: "step" }>,
): void {
  switch (news.kind) {
    case "backend":
      onBackend(news.started);
      break;
    case "cases":
      tell({ ...news, kind: "cases.prepared" });
      break;
    case "computed":
      tell({ ...news, kind: "job.computed" });
      break;
    case "graph-refused":
      tell({ kind: "graph.refused", code: news.code });
  }
}
