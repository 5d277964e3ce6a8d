// The opened plans, each verified once and kept: what the study's machine needs to decide.

import type { PublicKey, Sha256, StudyId } from "@consilium/shared/base/brand.ts";
import { openEnvelope } from "@consilium/shared/crypto/envelope.ts";
import type { ParameterManifest } from "@consilium/shared/model/parameter-manifest.ts";
import { type StudyPlan, StudyPlanDocument } from "@consilium/shared/model/study-plan.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import { architectureOf } from "../versions/start-model.ts";

export type OpenedPlan = {
  readonly plan: StudyPlan;
  readonly digest: Sha256;
  /** The tensors of an update. */
  readonly manifest: ParameterManifest;
};

export class PlanBook {
  readonly #key: PublicKey;
  readonly #opened = new Map<StudyId, OpenedPlan>();

  constructor(coordinatorKey: PublicKey) {
    this.#key = coordinatorKey;
  }

  /** @throws ProtocolError study.unknown */
  find(federation: FederationState, study: StudyId): OpenedPlan {
    const known = this.#opened.get(study);
    if (known) return known;
    const record = federation.plans.get(study);
    if (!record) throw new ProtocolError("study.unknown");
    const plan = openEnvelope(StudyPlanDocument, record.envelope, this.#key);
    const manifest = architectureOf(plan.recipe).trainable(plan.recipe.config);
    const opened = { plan, digest: record.plan, manifest };
    this.#opened.set(study, opened);
    return opened;
  }
}
