// What can happen to a study and what its machine can ask for: the vocabulary of round.ts.

import type { ModelVersionId, Sha256, SiteId } from "../base/brand.ts";
import type { Envelope } from "../crypto/envelope.ts";
import type { StudyPlan } from "../model/study-plan.ts";
import type { ProtocolErrorCode } from "./errors.ts";
import type { ToSite } from "./messages.ts";
import type { StudyRecord } from "./records.ts";
import type { AcceptedUpdate } from "./study-state.ts";

export type RoundEvent =
  | { readonly kind: "started"; readonly nowMs: number }
  | { readonly kind: "timer"; readonly nowMs: number }
  /** A site asks what is owed to it. */
  | { readonly kind: "hello"; readonly nowMs: number; readonly site: SiteId }
  | {
      readonly kind: "approved";
      readonly nowMs: number;
      readonly site: SiteId;
      readonly plan: Sha256;
      readonly examples: number;
      readonly envelope: Envelope;
    }
  /** An update whose signature and tensors have been checked. */
  | ({ readonly kind: "update"; readonly nowMs: number } & SubmittedUpdate)
  /** An update that failed a check of its signature or tensors. */
  | {
      readonly kind: "update-refused";
      readonly nowMs: number;
      readonly site: SiteId;
      readonly round: number;
      readonly update: Sha256;
      readonly code: ProtocolErrorCode;
    }
  | {
      readonly kind: "aggregated";
      readonly nowMs: number;
      readonly round: number;
      readonly version: ModelVersionId;
      readonly weights: { readonly sha256: Sha256; readonly bytes: number };
      readonly envelope: Envelope;
    }
  | {
      readonly kind: "evaluated";
      readonly nowMs: number;
      readonly site: SiteId;
      readonly version: ModelVersionId;
      readonly meanDice: number | null;
      readonly envelope: Envelope;
    }
  /** A site was suspended, resumed or retired. */
  | { readonly kind: "sites-changed"; readonly nowMs: number }
  | { readonly kind: "abort-round"; readonly nowMs: number }
  | { readonly kind: "finish"; readonly nowMs: number };

export type SubmittedUpdate = AcceptedUpdate & {
  readonly round: number;
  readonly plan: Sha256;
  readonly baseVersion: ModelVersionId;
  readonly envelope: Envelope;
};

export type RoundEffect =
  /** Durable: one leaf of the log. */
  | { readonly kind: "append"; readonly record: StudyRecord }
  /** Visible: may be lost, doubled or late. */
  | { readonly kind: "send"; readonly to: SiteId; readonly message: RoundMessage }
  /** Forgotten in a crash; `started` asks again. */
  | { readonly kind: "timer"; readonly atMs: number }
  /** Compute the version of a closed round; answered by `aggregated`. */
  | {
      readonly kind: "aggregate";
      readonly round: number;
      readonly base: ModelVersionId;
      readonly accepted: readonly AcceptedUpdate[];
    };

/** A message in which versions are still named, not located: the shell adds where their weights are. */
export type RoundMessage = Located<ToSite>;
type Located<M> = M extends { base: unknown }
  ? Omit<M, "base"> & { base: ModelVersionId }
  : M extends { candidate: unknown }
    ? Omit<M, "candidate"> & { candidate: ModelVersionId }
    : M extends { released: unknown }
      ? Omit<M, "released"> & { released: ModelVersionId | null }
      : M;

/** What does not change in a study, and which of its sites may act now. */
export type RoundContext = {
  readonly plan: StudyPlan;
  readonly planDigest: Sha256;
  readonly isActive: (site: SiteId) => boolean;
};
