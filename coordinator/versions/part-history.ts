// Where a part of a version comes from, step by step, as far as the log knows: back through the rounds that trained it
// and through the studies that it was taken from.

import type { ModelVersionId, StudyId } from "@consilium/shared/base/brand.ts";
import type { ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import type { PartName } from "@consilium/shared/protocol/names.ts";
import type { PartOrigin } from "@consilium/shared/protocol/version-parts.ts";

export type ManifestOf = (version: ModelVersionId) => ModelVersionManifest | undefined;

/** A version in which the part is, or came to be, what it was from there on. */
export type PartStep = {
  readonly version: ModelVersionId;
  readonly study: StudyId;
  /** Of the version; 0 for a start version. */
  readonly round: number;
  readonly origin: PartOrigin;
};

/** The newest step first. */
export function partHistory(manifestOf: ManifestOf, version: ModelVersionId, part: PartName): PartStep[] {
  const steps: PartStep[] = [];
  // Every step leads to an earlier entry of the log.
  for (let at: ModelVersionId | null = version; at !== null; ) {
    const manifest = manifestOf(at);
    if (!manifest) break;
    const { from, study } = manifest;
    const origin = manifest.parts?.find((one) => one.part === part)?.origin ?? wholeOrigin(manifest);
    const round = from.kind === "aggregated" ? from.round : 0;
    steps.push({ version: at, study, round, origin });
    if (origin.kind === "version") at = origin.version;
    else at = origin.kind === "trained" && from.kind === "aggregated" ? from.parent : null;
  }
  return steps;
}

/** The one part of a recipe has the origin of its version. */
function wholeOrigin({ from, weights }: ModelVersionManifest): PartOrigin {
  if (from.kind === "aggregated") return { kind: "trained", base: weights.sha256 };
  return from.kind === "seeded" ? from : { kind: "unstated" };
}

/** Whether a contribution that went into these bytes in another study was taken back since. */
export function holdsWithdrawn(state: FederationState, steps: readonly PartStep[]): boolean {
  return steps.some(({ origin }, at) => {
    if (origin.kind !== "version" || steps[at + 1]?.origin.kind !== "trained") return false;
    return state.studies.get(origin.study)?.versions.get(origin.version)?.withdrawn ?? false;
  });
}

/** Studies whose start model holds a contribution that was taken back in another study. */
export function studiesOverWithdrawn(state: FederationState, manifestOf: ManifestOf): StudyId[] {
  return [...state.studies.values()].flatMap(({ study, versions }) => {
    const start = [...versions.values()].find(({ round }) => round === 0)?.version;
    const parts = start ? (manifestOf(start)?.parts ?? []) : [];
    const isOver = parts.some(
      ({ part }) => start && holdsWithdrawn(state, partHistory(manifestOf, start, part)),
    );
    return isOver ? [study] : [];
  });
}
