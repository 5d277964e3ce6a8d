// Which cases of a site train and which validate. The same list gives the same split everywhere; nothing is drawn at
// random, so that a score can be reproduced from the list alone.

import { assert } from "@consilium/shared/base/assert.ts";
import type { CaseId } from "./study-source.ts";

/** The last fifth of the list, rounded down, or exactly the cases named. */
export type CohortSplit =
  | { readonly kind: "lastFifth" }
  | { readonly kind: "explicit"; readonly validation: readonly CaseId[] };

export interface SplitCohort {
  readonly training: readonly CaseId[];
  readonly validation: readonly CaseId[];
}

/** Fewer than five leave nothing to validate on. */
export function lastFifth<Case>(cases: readonly Case[]): { training: Case[]; validation: Case[] } {
  const trainingCount = cases.length - Math.floor(cases.length / 5);
  return { training: cases.slice(0, trainingCount), validation: cases.slice(trainingCount) };
}

export function splitCohort(cases: readonly CaseId[], split: CohortSplit): SplitCohort {
  if (split.kind === "lastFifth") return lastFifth(cases);
  const validation = new Set(split.validation);
  assert(
    [...validation].every((id) => cases.includes(id)),
    "a validation case is in the list",
  );
  return {
    training: cases.filter((id) => !validation.has(id)),
    validation: cases.filter((id) => validation.has(id)),
  };
}
