// What the agent says about its work to whoever composed it. Errors are handed over as they are; what may be shown of
// them is not decided here.

import type { SiteRecord } from "@consilium/shared/protocol/site-session.ts";

export type JobKind = "train" | "evaluate" | "install";

export type AgentNotice =
  /** A record has become durable. */
  | { readonly kind: "recorded"; readonly record: SiteRecord }
  | { readonly kind: "job.started"; readonly job: JobKind; readonly round: number }
  | {
      readonly kind: "job.progress";
      readonly job: JobKind;
      readonly step: number;
      readonly steps: number;
      readonly loss: number | null;
    }
  | { readonly kind: "job.finished"; readonly job: JobKind; readonly durationMs: number }
  | { readonly kind: "job.abandoned"; readonly job: JobKind }
  | {
      readonly kind: "job.failed";
      readonly job: JobKind;
      readonly error: unknown;
      readonly holdOffMs: number;
    }
  | { readonly kind: "submission.failed"; readonly error: unknown };
