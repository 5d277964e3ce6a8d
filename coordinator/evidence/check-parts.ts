// The rules of a version's parts, stated a second time: from the log alone, does each part come from where its manifest
// says, and did a round leave alone what its plan freezes? That the bytes are those is checked when they are computed.

import type { ModelVersionId } from "@consilium/shared/base/brand.ts";
import { canonicalJsonText } from "@consilium/shared/encoding/canonical-json.ts";
import { findArchitecture } from "@consilium/shared/model/recipe-architectures.ts";
import { hasParts, recipeParts } from "@consilium/shared/model/recipe-parts.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import {
  isNameOf,
  type PartOrigin,
  partDigestIn,
  type VersionPart,
} from "@consilium/shared/protocol/version-parts.ts";
import { holdsWithdrawn, partHistory } from "../versions/part-history.ts";

export type KnownLog = {
  readonly state: FederationState;
  readonly manifests: ReadonlyMap<ModelVersionId, ModelVersionManifest>;
  /** Of the version's study; a start version is older than its plan. */
  readonly plan: StudyPlan | undefined;
};

/** What is wrong with the parts of a version; a recipe that this build does not know is refused when it is computed. */
export function partFaults(manifest: ModelVersionManifest, log: KnownLog): string[] {
  const architecture = findArchitecture(manifest.recipe);
  if (!architecture) return [];
  const { parts = [], from } = manifest;
  const named = parts.map(({ part }) => part).join();
  const expected = hasParts(architecture) ? architecture.partNames.join() : "";
  if (named !== expected) return ["the manifest does not name exactly the parts of its recipe"];
  if (from.kind !== "aggregated") return parts.flatMap((one) => startFaults(one, from, log));
  if (expected === "" || !log.plan) return [];
  const trained = recipeParts(architecture, log.plan.recipe.config).filter(({ isTrained }) => isTrained);
  const before = log.manifests.get(from.parent)?.parts ?? [];
  return parts.flatMap((one) => {
    const parent = before.find(({ part }) => part === one.part);
    return roundFaults(
      one,
      parent,
      trained.some(({ part }) => part === one.part),
    );
  });
}

function roundFaults(one: VersionPart, parent: VersionPart | undefined, isTrained: boolean): string[] {
  const { part, origin } = one;
  if (!parent) return [`${part}: the parent has no such part`];
  if (!isTrained)
    return canonicalJsonText(one) === canonicalJsonText(parent)
      ? []
      : [`${part}: frozen under the plan, and not what it is in the parent`];
  return origin.kind === "trained" && origin.base === parent.sha256
    ? []
    : [`${part}: trained under the plan, and does not name the parent's ${part}`];
}

type StartFrom = Exclude<ModelVersionManifest["from"], { kind: "aggregated" }>;

/** Origins that a part of such a start version may have. */
const startOrigins: Readonly<Record<StartFrom["kind"], readonly PartOrigin["kind"][]>> = {
  seeded: ["seeded"],
  composed: ["seeded", "version"],
  imported: ["seeded", "version", "checkpoint", "foreign", "unstated"],
};

function startFaults({ part, sha256, origin }: VersionPart, from: StartFrom, log: KnownLog): string[] {
  if (!startOrigins[from.kind].includes(origin.kind))
    return [`${part}: a start version that was ${from.kind} has no part of origin ${origin.kind}`];
  switch (origin.kind) {
    case "seeded":
      return from.kind !== "seeded" || from.seed === origin.seed
        ? []
        : [`${part}: another seed than the version's`];
    case "checkpoint":
      return isNameOf(origin.name, origin.sha256)
        ? []
        : [`${part}: no published checkpoint of that name has that digest`];
    case "version": {
      const known = log.manifests.get(origin.version);
      if (known?.study !== origin.study || partDigestIn(known, part) !== sha256)
        return [`${part}: not the ${part} of the version that it is said to come from`];
      const { state, manifests } = log;
      const history = partHistory((version) => manifests.get(version), origin.version, part);
      const isMarked = state.studies.get(origin.study)?.versions.get(origin.version)?.withdrawn ?? false;
      return isMarked || holdsWithdrawn(state, history)
        ? [`${part}: taken from a version that was withdrawn before`]
        : [];
    }
    default:
      return [];
  }
}
