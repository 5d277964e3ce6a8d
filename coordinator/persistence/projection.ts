// The tables that people with SQL look at, as a pure function of the log: which rows one entry changes. The database
// applies the changes in the transaction of the entry; fsck applies them to nothing and compares.

import type { ModelVersionId, Sha256, SiteId } from "@consilium/shared/base/brand.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import { isStudyRecord, type LogEntry, type StudyRecord } from "@consilium/shared/protocol/records.ts";
import { currentRelease, type StudyState } from "@consilium/shared/protocol/study-state.ts";

type Cell = string | number | boolean | null | readonly string[];
export type Row = Readonly<Record<string, Cell>>;

/** The projections and the columns that identify a row. */
export const primaryKeys = {
  site: ["site"],
  invitation: ["invitation"],
  study: ["study"],
  plan_approval: ["study", "site"],
  round: ["study", "round"],
  round_update: ["study", "round", "site"],
  refusal: ["index"],
  model_version: ["version"],
  evaluation: ["version", "site"],
} as const satisfies Record<string, readonly string[]>;

export type TableName = keyof typeof primaryKeys;
export const tableNames = Object.keys(primaryKeys) as TableName[]; // Object.keys forgets the literal's own keys.
/** A whole row, to be inserted or to replace the one with its key. */
export type RowChange = { readonly table: TableName; readonly row: Row };
/** Every row of every projection, by the text of its key. */
export type Tables = Readonly<Record<TableName, ReadonlyMap<string, Row>>>;

export function rowKey(table: TableName, row: Row): string {
  return primaryKeys[table].map((column) => row[column]).join(" ");
}

/** The rows that `entry` changes; `after` is the federation with it. */
export function project(entry: LogEntry, after: FederationState): RowChange[] {
  const { record } = entry;
  if (isStudyRecord(record)) {
    const study = after.studies.get(record.study);
    return study ? [studyRow(study), ...studyChanges(entry, record, study)] : [];
  }
  switch (record.kind) {
    case "log.opened":
    case "witness.alarmed":
      return [];
    case "document.refused": {
      const { site, code, document } = record;
      return [
        { table: "refusal", row: { index: entry.index, study: null, round: null, site, code, document } },
      ];
    }
    case "site.invited":
      return invitationRow(after, record.invitation);
    case "site.enrolled":
      return [...siteRow(after, record.site), ...invitationRow(after, record.invitation)];
    default:
      return siteRow(after, record.site);
  }
}

function studyChanges(entry: LogEntry, record: StudyRecord, study: StudyState): RowChange[] {
  switch (record.kind) {
    case "plan.approved":
      return [approvalRow(study, record.site)];
    case "round.opened": {
      const { round, baseVersion, deadlineMs, sites } = record;
      const row = { study: study.study, round, baseVersion, deadlineMs, status: "open", sites };
      return [{ table: "round", row }];
    }
    case "round.closed":
    case "round.abandoned":
      return roundRow(record, study);
    case "update.accepted": {
      const { study: name, round, site, delta, update, examples } = record;
      return [{ table: "round_update", row: { study: name, round, site, delta, update, examples } }];
    }
    case "update.refused": {
      const { study: name, round, site, code, update } = record;
      const row = { index: entry.index, study: name, round, site, code, document: update };
      return [{ table: "refusal", row }];
    }
    case "evaluation.reported": {
      const { version, site, meanDice } = record;
      return [{ table: "evaluation", row: { version, site, meanDice } }];
    }
    case "version.created":
    case "version.judged":
      return versionRows(study, [record.version]);
    case "contribution.withdrawn":
      return [approvalRow(study, record.site), ...versionRows(study, record.versions)];
    default:
      return [];
  }
}

function studyRow(study: StudyState): RowChange {
  const { openedPlan, phase, round, completedRounds, deadlineMs, last, best } = study;
  return {
    table: "study",
    row: {
      study: study.study,
      plan: openedPlan,
      phase,
      round,
      completedRounds,
      deadlineMs,
      last,
      best: best?.version ?? null,
      bestMeanDice: best?.meanDice ?? null,
      released: currentRelease(study),
    },
  };
}

function approvalRow(study: StudyState, site: SiteId): RowChange {
  const examples = study.approvals.get(site) ?? 0;
  const withdrawn = study.withdrawnSites.has(site);
  return { table: "plan_approval", row: { study: study.study, site, examples, withdrawn } };
}

/** Closing and abandoning end the round that the state still describes. */
function roundRow(
  record: { round: number; kind: "round.closed" | "round.abandoned" },
  study: StudyState,
): RowChange[] {
  const { baseVersion } = study;
  if (record.round !== study.round || baseVersion === null) return [];
  const status = record.kind === "round.closed" ? "closed" : "abandoned";
  const { round, openedDeadlineMs: deadlineMs, cohort: sites } = study;
  return [{ table: "round", row: { study: study.study, round, baseVersion, deadlineMs, status, sites } }];
}

function versionRows(study: StudyState, ids: readonly ModelVersionId[]): RowChange[] {
  return ids.flatMap((id): RowChange[] => {
    const one = study.versions.get(id);
    if (!one) return [];
    const { version, round, parent, contributors, weights, judged, meanDice, withdrawn } = one;
    const stored = { weightsSha256: weights.sha256, weightsBytes: weights.bytes };
    const row = {
      version,
      study: study.study,
      round,
      parent,
      contributors,
      ...stored,
      judged,
      meanDice,
      withdrawn,
    };
    return [{ table: "model_version", row }];
  });
}

function siteRow(after: FederationState, name: SiteId): RowChange[] {
  const found = after.enrolment.sites.get(name);
  if (!found) return [];
  const { site, status, publicKey, invitation, enrolledAtMs } = found;
  return [{ table: "site", row: { site, status, publicKey, invitation, enrolledAtMs } }];
}

function invitationRow(after: FederationState, id: Sha256): RowChange[] {
  const found = after.enrolment.invitations.get(id);
  return found ? [{ table: "invitation", row: { ...found } }] : [];
}

/** The tables that a whole log makes. */
export function foldTables(changes: Iterable<RowChange>): Tables {
  const tables = emptyTables();
  for (const { table, row } of changes) tables[table].set(rowKey(table, row), row);
  return tables;
}

export function emptyTables(): Record<TableName, Map<string, Row>> {
  const entries = tableNames.map((name) => [name, new Map<string, Row>()]);
  return Object.fromEntries(entries) as Record<TableName, Map<string, Row>>; // fromEntries forgets the keys.
}
