// The records: durable facts of the federation, in the order in which they became true. Each is one leaf of the
// transparency log, and every state of every machine is a fold over them. A record that rests on a signed document
// carries the document, so the log alone is enough to check it.

import { type Static, Type } from "typebox";
import { Envelope } from "../crypto/envelope.ts";
import {
  Count,
  Digest,
  ErrorCode,
  Key,
  Origin,
  Positive,
  RoundNumber,
  ShortText,
  SiteName,
  StudyName,
  TimeMs,
  VersionId,
} from "./names.ts";

const strict = { additionalProperties: false } as const;
const Score = Type.Number({ minimum: 0, maximum: 1 });

const federationRecords = [
  Type.Object(
    { kind: Type.Literal("log.opened"), origin: Origin, coordinatorKey: Key, protocol: Positive },
    strict,
  ),
  Type.Object(
    { kind: Type.Literal("site.invited"), invitation: Digest, site: SiteName, expiresAtMs: TimeMs },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("site.enrolled"),
      site: SiteName,
      invitation: Digest,
      publicKey: Key,
      envelope: Envelope,
    },
    strict,
  ),
  Type.Object({ kind: Type.Literal("site.suspended"), site: SiteName, reason: ShortText }, strict),
  Type.Object({ kind: Type.Literal("site.resumed"), site: SiteName, reason: ShortText }, strict),
  Type.Object({ kind: Type.Literal("site.retired"), site: SiteName, reason: ShortText }, strict),
  Type.Object(
    { kind: Type.Literal("witness.alarmed"), site: SiteName, alarm: Digest, envelope: Envelope },
    strict,
  ),
  /** A document of a site that could not even be attributed to a study. */
  Type.Object(
    { kind: Type.Literal("document.refused"), site: SiteName, code: ErrorCode, document: Digest },
    strict,
  ),
] as const;

const AcceptedEntry = Type.Object(
  { site: SiteName, delta: Digest, update: Digest, examples: Positive },
  strict,
);

const studyRecords = [
  Type.Object(
    {
      kind: Type.Literal("study.opened"),
      study: StudyName,
      plan: Digest,
      recruitUntilMs: TimeMs,
      envelope: Envelope,
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("plan.approved"),
      study: StudyName,
      site: SiteName,
      examples: Positive,
      envelope: Envelope,
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("round.opened"),
      study: StudyName,
      round: RoundNumber,
      baseVersion: VersionId,
      deadlineMs: TimeMs,
      sites: Type.Array(SiteName),
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("update.accepted"),
      study: StudyName,
      round: RoundNumber,
      site: SiteName,
      delta: Digest,
      update: Digest,
      examples: Positive,
      envelope: Envelope,
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("update.refused"),
      study: StudyName,
      round: RoundNumber,
      site: SiteName,
      code: ErrorCode,
      update: Digest,
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("round.closed"),
      study: StudyName,
      round: RoundNumber,
      accepted: Type.Array(AcceptedEntry),
      missing: Type.Array(SiteName),
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("round.abandoned"),
      study: StudyName,
      round: RoundNumber,
      reason: Type.Union([Type.Literal("deadline"), Type.Literal("quorum-lost"), Type.Literal("operator")]),
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("version.created"),
      study: StudyName,
      round: Count,
      version: VersionId,
      /** Where the weights are, as the manifest says. */
      weights: Type.Object({ sha256: Digest, bytes: Positive }, strict),
      evaluateUntilMs: TimeMs,
      envelope: Envelope,
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("evaluation.reported"),
      study: StudyName,
      version: VersionId,
      site: SiteName,
      meanDice: Type.Union([Score, Type.Null()]),
      envelope: Envelope,
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("version.judged"),
      study: StudyName,
      version: VersionId,
      promoted: Type.Boolean(),
      /** Mean over the sites that reported; null where none could. */
      meanDice: Type.Union([Score, Type.Null()]),
      reason: Type.Union([
        Type.Literal("first"),
        Type.Literal("better"),
        Type.Literal("not-better"),
        Type.Literal("site-dropped"),
        Type.Literal("no-reports"),
      ]),
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("study.finished"),
      study: StudyName,
      reason: Type.Union([
        Type.Literal("rounds-complete"),
        Type.Literal("abandoned"),
        Type.Literal("operator"),
      ]),
      best: Type.Union([VersionId, Type.Null()]),
      last: VersionId,
      finishedAtMs: TimeMs,
    },
    strict,
  ),
  Type.Object(
    { kind: Type.Literal("version.released"), study: StudyName, version: VersionId, reason: ShortText },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("release.rolled-back"),
      study: StudyName,
      from: VersionId,
      to: Type.Union([VersionId, Type.Null()]),
      reason: ShortText,
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("version.installed"),
      study: StudyName,
      version: Type.Union([VersionId, Type.Null()]),
      site: SiteName,
      envelope: Envelope,
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("contribution.withdrawn"),
      study: StudyName,
      site: SiteName,
      reason: ShortText,
      versions: Type.Array(VersionId),
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("blobs.deleted"),
      study: StudyName,
      rule: Type.Literal("retention"),
      blobs: Type.Array(Digest, { maxItems: 1000 }),
    },
    strict,
  ),
] as const;

export const FederationRecord = Type.Union([...federationRecords]);
export type FederationRecord = Static<typeof FederationRecord>;
export const StudyRecord = Type.Union([...studyRecords]);
export type StudyRecord = Static<typeof StudyRecord>;
export const LogRecord = Type.Union([...federationRecords, ...studyRecords]);
export type LogRecord = Static<typeof LogRecord>;
export type LogRecordKind = LogRecord["kind"];
export type RecordOf<K extends LogRecordKind> = Extract<LogRecord, { kind: K }>;

/** One leaf of the log: what became true, when, and at which position. */
export const LogEntry = Type.Object({ index: Count, atMs: TimeMs, record: LogRecord }, strict);
export type LogEntry = Static<typeof LogEntry>;

export function isStudyRecord(record: LogRecord): record is StudyRecord {
  return "study" in record;
}
