// From a closed round to the manifest of its version, pure: the same accepted updates give the same manifest, and its
// digest is the version's name.

import type { ModelVersionId, Sha256 } from "@consilium/shared/base/brand.ts";
import { documentDigest } from "@consilium/shared/crypto/digest.ts";
import type { Json } from "@consilium/shared/encoding/canonical-json.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import type { AcceptedUpdate } from "@consilium/shared/protocol/study-state.ts";
import type { VersionPart } from "@consilium/shared/protocol/version-parts.ts";
import type { StoredBlob } from "./artifact-store.ts";

export type ClosedRound = {
  readonly origin: string;
  readonly plan: StudyPlan;
  readonly planDigest: Sha256;
  readonly round: number;
  readonly parent: ModelVersionId;
  readonly accepted: readonly AcceptedUpdate[];
  readonly weights: StoredBlob;
  /** Null for a recipe of one part. */
  readonly parts: VersionPart[] | null;
};

export function deriveManifest(closed: ClosedRound): ModelVersionManifest {
  const { origin, plan, planDigest, round, parent, accepted, weights, parts } = closed;
  return {
    origin,
    study: plan.study,
    plan: planDigest,
    recipe: { id: plan.recipe.id, version: plan.recipe.version },
    parameterManifest: plan.parameterManifest,
    weights: { sha256: weights.sha256, bytes: weights.bytes },
    from: {
      kind: "aggregated",
      round,
      rule: plan.aggregation.rule,
      parent,
      contributions: accepted.map(({ site, delta, update, examples }) => ({ site, delta, update, examples })),
    },
    ...(parts ? { parts } : {}),
  };
}

export function versionId(manifest: ModelVersionManifest): ModelVersionId {
  const digest: string = documentDigest("model-version", manifest as Json); // The schema describes JSON.
  return digest as ModelVersionId; // The digest of its manifest is what a version id is.
}
