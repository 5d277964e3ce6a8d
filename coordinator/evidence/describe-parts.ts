// Where the parts of a version come from, in sentences for people, from the beginning on.

import type { ModelVersionId } from "@consilium/shared/base/brand.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import { originWords } from "@consilium/shared/protocol/version-parts.ts";
import { holdsWithdrawn, type ManifestOf, type PartStep, partHistory } from "../versions/part-history.ts";

/** One sentence for each part; none for a recipe of one part. */
export function partFacts(manifestOf: ManifestOf, version: ModelVersionId, state: FederationState): string[] {
  const parts = manifestOf(version)?.parts ?? [];
  return parts.map(({ part, sha256 }) => {
    const steps = partHistory(manifestOf, version, part);
    const note = holdsWithdrawn(state, steps)
      ? "; WITHDRAWN since: a site took its contribution to that version back"
      : "";
    return `${part} ${sha256}: ${inOrder(steps.reverse())}${note}`;
  });
}

/** Rounds of one study that follow each other are one clause. */
function inOrder(steps: readonly PartStep[]): string {
  const clauses: string[] = [];
  for (const [at, { origin, study, round, version }] of steps.entries()) {
    const before = steps[at - 1];
    const name = `round ${round} (version ${version.slice(0, 12)})`;
    if (origin.kind !== "trained") clauses.push(originWords(origin));
    else if (before?.origin.kind === "trained" && before.study === study)
      clauses.push(`${clauses.pop()}, ${name}`);
    else clauses.push(`trained in ${study}: ${name}`);
  }
  return clauses.join("; then ");
}
