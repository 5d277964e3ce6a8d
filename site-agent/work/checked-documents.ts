// A study's documents as this site believes them: signed by the pinned key, of the expected digest, consistent with each
// other and with a recipe that this agent knows. Pure; everything else refuses to work with less.

import type { PublicKey, Sha256, SiteId } from "@consilium/shared/base/brand.ts";
import { documentDigest } from "@consilium/shared/crypto/digest.ts";
import { type Envelope, EnvelopeError, openEnvelope } from "@consilium/shared/crypto/envelope.ts";
import type { Json } from "@consilium/shared/encoding/canonical-json.ts";
import { ManifestError } from "@consilium/shared/model/parameter-manifest.ts";
import {
  findArchitecture,
  manifestDigest,
  type RecipeArchitecture,
} from "@consilium/shared/model/recipe-architectures.ts";
import {
  planDigest,
  planFaults,
  type StudyPlan,
  StudyPlanDocument,
} from "@consilium/shared/model/study-plan.ts";
import { ModelVersionDocument, type ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import type { VersionReference } from "@consilium/shared/protocol/messages.ts";
import { StudyError } from "./study-error.ts";

export type PlanExpectation = {
  readonly key: PublicKey;
  readonly site: SiteId;
  readonly study: string;
  /** The digest that was offered or approved; null before an approval, when any plan of the study will do. */
  readonly digest: Sha256 | null;
};

/** @throws StudyError */
export function openPlan(envelope: Envelope, { key, site, study, digest }: PlanExpectation): StudyPlan {
  const plan = opened(() => openEnvelope(StudyPlanDocument, envelope, key), "plan.not-signed");
  const isExpected = plan.study === study && plan.sites.includes(site);
  if (!isExpected || planFaults(plan).length > 0) throw new StudyError("plan.other");
  if (digest !== null && planDigest(plan) !== digest) throw new StudyError("plan.other");
  expectRecipe(plan);
  return plan;
}

/** The recipe's tensors, when this agent knows it and they are those that the plan names. @throws StudyError */
export function expectRecipe(plan: Pick<StudyPlan, "recipe" | "parameterManifest">): RecipeArchitecture {
  const architecture = findArchitecture(plan.recipe);
  if (!architecture) throw new StudyError("plan.unsuitable");
  try {
    const manifest = architecture.trainable(plan.recipe.config);
    if (manifestDigest(manifest) === plan.parameterManifest) return architecture;
  } catch (cause) {
    throw new StudyError("plan.unsuitable", { cause });
  }
  throw new StudyError("plan.unsuitable");
}

export type VersionExpectation = {
  readonly key: PublicKey;
  readonly origin: string;
  readonly plan: StudyPlan;
  readonly reference: VersionReference;
};

/** @throws StudyError */
export function openVersion(envelope: Envelope, expected: VersionExpectation): ModelVersionManifest {
  const { key, origin, plan, reference } = expected;
  const manifest = opened(() => openEnvelope(ModelVersionDocument, envelope, key), "version.not-signed");
  const { weights } = manifest;
  const isReferenced =
    versionDigest(manifest) === reference.version &&
    weights.sha256 === reference.weights.sha256 &&
    weights.bytes === reference.weights.bytes;
  if (!isReferenced || manifest.origin !== origin || !belongsTo(manifest, plan))
    throw new StudyError("version.other");
  return manifest;
}

/** What the plan starts from. @throws StudyError */
export function openStartVersion(
  envelope: Envelope,
  { key, origin, plan }: Omit<VersionExpectation, "reference">,
): ModelVersionManifest {
  const manifest = opened(() => openEnvelope(ModelVersionDocument, envelope, key), "version.not-signed");
  const isStart = manifest.plan === null && versionDigest(manifest) === plan.startVersion;
  if (!isStart || manifest.origin !== origin || !belongsTo(manifest, plan))
    throw new StudyError("version.other");
  return manifest;
}

/** The name that a version's manifest gives it. */
export function versionDigest(manifest: ModelVersionManifest): string {
  return documentDigest("model-version", manifest as Json); // The schema describes JSON.
}

/** A version made under the plan, or the one that the plan starts from. */
export function belongsTo(manifest: ModelVersionManifest, plan: StudyPlan): boolean {
  const isStart = manifest.plan === null && versionDigest(manifest) === plan.startVersion;
  return (
    manifest.study === plan.study &&
    (isStart || manifest.plan === planDigest(plan)) &&
    manifest.recipe.id === plan.recipe.id &&
    manifest.recipe.version === plan.recipe.version &&
    manifest.parameterManifest === plan.parameterManifest
  );
}

function opened<T>(open: () => T, code: "plan.not-signed" | "version.not-signed"): T {
  try {
    return open();
  } catch (cause) {
    if (cause instanceof EnvelopeError || cause instanceof ManifestError)
      throw new StudyError(code, { cause });
    throw cause;
  }
}
