// Where the parts of a version come from, in sentences for people: back through the rounds that trained a part and
// through the studies that it was taken from, as far as the log knows.

import type { ModelVersionId } from "@consilium/shared/base/brand.ts";
import type { ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import type { PartName } from "@consilium/shared/protocol/names.ts";
import type { PartOrigin } from "@consilium/shared/protocol/version-parts.ts";

type Manifests = ReadonlyMap<ModelVersionId, ModelVersionManifest>;
type Step = { readonly words: string; readonly next: ModelVersionId | null };

/** One sentence for each part; none for a recipe of one part. */
export function partFacts(manifests: Manifests, version: ModelVersionId, state: FederationState): string[] {
  const parts = manifests.get(version)?.parts ?? [];
  return parts.map(({ part, sha256 }) => {
    const words: string[] = [];
    // Every step leads to an earlier entry of the log.
    for (let at: ModelVersionId | null = version; at !== null; ) {
      const manifest = manifests.get(at);
      if (!manifest) break;
      const step = stepBack(manifest, part, state);
      words.push(step.words);
      at = step.next;
    }
    return `${part} ${sha256}: ${joined(words)}`;
  });
}

function stepBack(manifest: ModelVersionManifest, part: PartName, state: FederationState): Step {
  const { from, study } = manifest;
  const origin = manifest.parts?.find((one) => one.part === part)?.origin ?? wholeOrigin(manifest);
  if (origin.kind === "trained" && from.kind === "aggregated")
    return { words: `trained in ${study}, round ${from.round}`, next: from.parent };
  if (origin.kind !== "version") return { words: originWords(origin), next: null };
  const withdrawn = state.studies.get(origin.study)?.versions.get(origin.version)?.withdrawn;
  const note = withdrawn ? ", WITHDRAWN since: a site took its contribution back" : "";
  return { words: `${originWords(origin)}${note}`, next: origin.version };
}

/** The one part of a recipe has the origin of its version. */
function wholeOrigin({ from, weights }: ModelVersionManifest): PartOrigin {
  if (from.kind === "aggregated") return { kind: "trained", base: weights.sha256 };
  return from.kind === "seeded" ? from : { kind: "unstated" };
}

/** One origin, as far as its own document says. */
export function originWords(origin: PartOrigin): string {
  switch (origin.kind) {
    case "seeded":
      return `drawn from seed ${origin.seed}`;
    case "version":
      return `taken from version ${origin.version} of study ${origin.study}`;
    case "checkpoint": {
      const name = origin.name === null ? "an unpublished checkpoint" : `checkpoint ${origin.name}`;
      return `${name} with SHA-256 ${origin.sha256}, as ${claimant(origin.claimedBy)} claims`;
    }
    case "foreign": {
      const { study, version, log, claimedBy } = origin;
      return `version ${version} of study ${study} in ${log}, as ${claimant(claimedBy)} claims`;
    }
    case "unstated":
      return "imported, its origin not stated";
    case "trained":
      return `trained from ${origin.base}`;
  }
}

function claimant(claimedBy: string): string {
  return claimedBy === "" ? "whoever put it together" : claimedBy;
}

/** Rounds one after the other are one list. */
function joined(words: readonly string[]): string {
  return words.join("; before that ");
}
