// Every message on the control channel, schema and type together. Messages are small, idempotent and may be lost,
// doubled or late; each carries its sender's sequence number, and everything owed can be asked for again with a
// `session.hello`.

import { type Static, Type } from "typebox";
import { Envelope } from "../crypto/envelope.ts";
import {
  Count,
  Digest,
  ErrorCode,
  Positive,
  RoundNumber,
  SiteName,
  StudyName,
  TimeMs,
  VersionId,
} from "./names.ts";

const strict = { additionalProperties: false } as const;

/** Where a version's weights are and what they must hash to. */
export const VersionReference = Type.Object(
  { version: VersionId, weights: Type.Object({ sha256: Digest, bytes: Positive }, strict) },
  strict,
);
export type VersionReference = Static<typeof VersionReference>;

const toSite = [
  Type.Object({ kind: Type.Literal("study.invitation"), study: StudyName, plan: Digest }, strict),
  Type.Object(
    {
      kind: Type.Literal("round.offer"),
      study: StudyName,
      plan: Digest,
      round: RoundNumber,
      base: VersionReference,
      /** Rounds that made a version so far: the position in the learning-rate schedule. */
      completedRounds: Count,
      /** Time left when the offer was sent; clocks of different houses are never compared. */
      remainingMs: TimeMs,
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("update.settled"),
      study: StudyName,
      round: RoundNumber,
      outcome: Type.Union([Type.Literal("accepted"), ErrorCode]),
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("evaluation.offer"),
      study: StudyName,
      plan: Digest,
      candidate: VersionReference,
      remainingMs: TimeMs,
    },
    strict,
  ),
  Type.Object(
    {
      kind: Type.Literal("evaluation.settled"),
      study: StudyName,
      version: VersionId,
      outcome: Type.Union([Type.Literal("accepted"), ErrorCode]),
    },
    strict,
  ),
  Type.Object({ kind: Type.Literal("study.finished"), study: StudyName }, strict),
  Type.Object(
    {
      kind: Type.Literal("version.released"),
      study: StudyName,
      /** Null where no version is in use any more. */
      released: Type.Union([VersionReference, Type.Null()]),
    },
    strict,
  ),
] as const;

export const ToSite = Type.Union([...toSite]);
export type ToSite = Static<typeof ToSite>;

const toCoordinator = [
  Type.Object({ kind: Type.Literal("session.hello"), protocol: Positive }, strict),
  Type.Object({ kind: Type.Literal("plan.approve"), envelope: Envelope }, strict),
  Type.Object({ kind: Type.Literal("update.submit"), envelope: Envelope }, strict),
  Type.Object({ kind: Type.Literal("evaluation.submit"), envelope: Envelope }, strict),
  Type.Object({ kind: Type.Literal("version.installed"), envelope: Envelope }, strict),
  Type.Object({ kind: Type.Literal("witness.alarm"), envelope: Envelope }, strict),
  Type.Object(
    {
      kind: Type.Literal("progress"),
      study: StudyName,
      round: RoundNumber,
      phase: Type.Union([
        Type.Literal("fetching"),
        Type.Literal("training"),
        Type.Literal("evaluating"),
        Type.Literal("uploading"),
      ]),
      step: Count,
      steps: Count,
      loss: Type.Union([Type.Number(), Type.Null()]),
      dice: Type.Union([Type.Number({ minimum: 0, maximum: 1 }), Type.Null()]),
    },
    strict,
  ),
] as const;

export const ToCoordinator = Type.Union([...toCoordinator]);
export type ToCoordinator = Static<typeof ToCoordinator>;

/** The frame of every socket event named `message`, both ways. */
export const SiteFrame = Type.Object({ seq: Count, message: ToCoordinator }, strict);
export type SiteFrame = Static<typeof SiteFrame>;
export const CoordinatorFrame = Type.Object({ seq: Count, message: ToSite }, strict);
export type CoordinatorFrame = Static<typeof CoordinatorFrame>;

/** The acknowledgement of a site's frame: it arrived and was understood, nothing more; outcomes come as messages. */
export const FrameAcknowledgement = Type.Union([
  Type.Object({ ok: Type.Literal(true), checkpoint: Type.String({ maxLength: 4096 }) }, strict),
  Type.Object({ ok: Type.Literal(false), code: ErrorCode }, strict),
]);
export type FrameAcknowledgement = Static<typeof FrameAcknowledgement>;

/** What an operator's socket is told, for live views. Nothing here is a fact; facts are in the log. */
export const OperatorEvent = Type.Union([
  Type.Object({
    kind: Type.Literal("progress"),
    site: SiteName,
    progress: Type.Extract(ToCoordinator, Type.Object({ kind: Type.Literal("progress") })),
  }),
  Type.Object({ kind: Type.Literal("presence"), site: SiteName, connected: Type.Boolean() }),
  Type.Object({ kind: Type.Literal("entry"), index: Count, atMs: TimeMs, record: Type.Unknown() }),
]);
export type OperatorEvent = Static<typeof OperatorEvent>;
