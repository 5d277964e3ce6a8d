// What happens in an agent, as the few things that may be said about it: kinds, counts, codes, durations. There is no
// field that could hold a name, a path, a voxel or free text, and the schema is what the log lets through.

import { unreachable } from "@consilium/shared/base/assert.ts";
import type { SiteRecord } from "@consilium/shared/protocol/site-session.ts";
import { type Static, type TProperties, Type } from "typebox";
import type { AgentNotice, JobKind } from "./agent/agent-notice.ts";
import { faultCode } from "./fault.ts";

const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const Code = Type.String({ pattern: "^[A-Za-z_]+(?:[.-][A-Za-z_]+)*$", maxLength: 64 });
const Job = Type.Union([Type.Literal("train"), Type.Literal("evaluate"), Type.Literal("install")]);
const LossOrNull = Type.Union([Type.Number(), Type.Null()]);

function event<K extends string, P extends TProperties>(kind: K, fields: P) {
  return Type.Object({ kind: Type.Literal(kind), ...fields }, { additionalProperties: false });
}

export const AgentEvent = Type.Union([
  event("agent.started", { records: Count, droppedBytes: Count }),
  event("agent.stopped", {}),
  event("coordinator.connected", {}),
  event("coordinator.disconnected", { code: Code }),
  event("coordinator.refused", { code: Code }),
  event("approval.found", { examples: Count }),
  event("approval.refused", { code: Code }),
  event("job.started", { job: Job, round: Count }),
  event("job.progress", { job: Job, step: Count, steps: Count, loss: LossOrNull }),
  event("job.computed", { durationMs: Count }),
  event("job.finished", { job: Job, durationMs: Count }),
  event("job.abandoned", { job: Job }),
  event("job.failed", { job: Job, code: Code, holdOffMs: Count }),
  event("graph.refused", { code: Code }),
  event("cases.prepared", { cases: Count, refused: Count, slices: Count }),
  event("submission.failed", { code: Code }),
  event("update.prepared", { round: Count, bytes: Count }),
  event("update.settled", { round: Count, outcome: Code }),
  event("evaluation.settled", { outcome: Code }),
  event("version.installed", {}),
  event("version.removed", {}),
  event("checkpoint.witnessed", { size: Count }),
  event("checkpoint.unchecked", { code: Code }),
  event("alarm.raised", { reason: Code }),
]);
export type AgentEvent = Static<typeof AgentEvent>;

/** What may be said of a notice of the agent; null where nothing is worth saying. */
export function eventOf(notice: AgentNotice): AgentEvent | null {
  switch (notice.kind) {
    case "recorded":
      return eventOfRecord(notice.record);
    case "job.failed": {
      const { kind, job, error, holdOffMs } = notice;
      return { kind, job, code: faultCode(error), holdOffMs };
    }
    case "submission.failed":
      return { kind: notice.kind, code: faultCode(notice.error) };
    default:
      return notice;
  }
}

function eventOfRecord(record: SiteRecord): AgentEvent | null {
  switch (record.kind) {
    case "plan.approved":
      return { kind: "approval.found", examples: record.examples };
    case "update.prepared":
      return { kind: "update.prepared", round: record.round, bytes: record.bytes };
    case "update.settled":
      return { kind: "update.settled", round: record.round, outcome: record.outcome };
    case "evaluation.settled":
      return { kind: "evaluation.settled", outcome: record.outcome };
    case "version.installed":
      return { kind: record.version === null ? "version.removed" : "version.installed" };
    case "checkpoint.witnessed":
      return { kind: "checkpoint.witnessed", size: record.size };
    case "alarm.raised":
      return { kind: "alarm.raised", reason: record.reason };
    case "evaluation.prepared":
    case "alarm.cleared":
      return null;
  }
}

/** One line for a person at the terminal. */
export function describeEvent(event: AgentEvent): string {
  switch (event.kind) {
    case "agent.started":
      return `agent started, ${event.records} records in the journal${dropped(event.droppedBytes)}`;
    case "agent.stopped":
      return "agent stopped";
    case "coordinator.connected":
      return "connected to the coordinator";
    case "coordinator.disconnected":
      return `no connection to the coordinator (${event.code}); trying again`;
    case "coordinator.refused":
      return `the coordinator refused a message (${event.code})`;
    case "approval.found":
      return `approval found: ${event.examples} training cases`;
    case "approval.refused":
      return `an approval file cannot be used (${event.code})`;
    case "job.started":
      return event.job === "train"
        ? `round ${event.round}: training begins`
        : `${doing[event.job]} a version`;
    case "job.progress":
      return `${doing[event.job]}: ${event.step} of ${event.steps}${lossText(event.loss)}`;
    case "job.computed":
      return `${(event.durationMs / 1000).toFixed(1)} s of it in training steps or predictions`;
    case "job.finished":
      return `${doing[event.job]} finished in ${(event.durationMs / 1000).toFixed(1)} s`;
    case "job.abandoned":
      return `${doing[event.job]} given up: it is no longer wanted`;
    case "job.failed":
      return `${doing[event.job]} failed (${event.code}); tried again in ${Math.round(event.holdOffMs / 1000)} s`;
    case "graph.refused":
      return `training goes on without a compiled step (${event.code})`;
    case "cases.prepared":
      return `${event.cases} cases read, ${event.refused} refused, ${event.slices} slices prepared`;
    case "submission.failed":
      return `the update could not be delivered (${event.code}); trying again`;
    case "update.prepared":
      return `round ${event.round}: update of ${event.bytes} bytes sealed`;
    case "update.settled":
      return `round ${event.round}: update ${event.outcome}`;
    case "evaluation.settled":
      return `evaluation ${event.outcome}`;
    case "version.installed":
      return "released version installed";
    case "version.removed":
      return "the released version was taken out of use, and none takes its place: its model file is gone";
    case "checkpoint.witnessed":
      return `the coordinator's log continues, ${event.size} entries witnessed`;
    case "checkpoint.unchecked":
      return `a checkpoint could not be checked (${event.code}); the next one will be`;
    case "alarm.raised":
      return `ALARM: the coordinator's log was altered (${event.reason}). Nothing more is sent.`;
    default:
      return unreachable(event, "event");
  }
}

const doing: Readonly<Record<JobKind, string>> = {
  train: "training",
  evaluate: "evaluating",
  install: "installing",
};

const dropped = (bytes: number): string => (bytes > 0 ? `, ${bytes} bytes of an unfinished one dropped` : "");
const lossText = (loss: number | null): string => (loss === null ? "" : `, loss ${loss.toFixed(4)}`);
