// The journal's records as a schema, so that what is read back from the disk is checked like anything else that is
// read. It says what shared/protocol/site-session.ts says as types; the agent's test holds the two together.

import { Envelope } from "@consilium/shared/crypto/envelope.ts";
import {
  Count,
  Digest,
  ErrorCode,
  Positive,
  RoundNumber,
  StudyName,
  VersionId,
} from "@consilium/shared/protocol/names.ts";
import { Type } from "typebox";

const strict = { additionalProperties: false } as const;
const Note = Type.String({ maxLength: 4096 });
const AlarmReason = Type.Union([
  Type.Literal("inconsistent"),
  Type.Literal("shrunk"),
  Type.Literal("bad-signature"),
]);

export const JournalRecord = Type.Union([
  Type.Object(
    {
      kind: Type.Literal("plan.approved"),
      study: StudyName,
      plan: Digest,
      examples: Positive,
      envelope: Envelope,
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("update.prepared"),
      study: StudyName,
      round: RoundNumber,
      delta: Digest,
      bytes: Positive,
      envelope: Envelope,
    },
    strict,
  ),
  Type.Object(
    { kind: Type.Literal("update.settled"), study: StudyName, round: RoundNumber, outcome: ErrorCode },
    strict,
  ),
  Type.Object(
    { kind: Type.Literal("evaluation.prepared"), study: StudyName, version: VersionId, envelope: Envelope },
    strict,
  ),
  Type.Object(
    { kind: Type.Literal("evaluation.settled"), study: StudyName, version: VersionId, outcome: ErrorCode },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("version.installed"),
      study: StudyName,
      version: Type.Union([VersionId, Type.Null()]),
      envelope: Envelope,
    },
    strict,
  ),
  Type.Object({ kind: Type.Literal("checkpoint.witnessed"), size: Count, note: Note }, strict),
  Type.Object({ kind: Type.Literal("alarm.raised"), reason: AlarmReason, envelope: Envelope }, strict),
  Type.Object(
    { kind: Type.Literal("alarm.cleared"), by: Type.String({ minLength: 1, maxLength: 200 }) },
    strict,
  ),
]);

/** The journal's name: part of its first hash. */
export const journalName = "journal";
