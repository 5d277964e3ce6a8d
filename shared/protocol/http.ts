// Bodies and answers of the HTTP routes, one schema each; docs/PROTOCOL.md lists the routes. Tensors travel as plain
// octets under their SHA-256 and have no schema here.

import { type Static, Type } from "typebox";
import { Envelope } from "../crypto/envelope.ts";
import { entriesPerPageMax } from "./limits.ts";
import {
  Count,
  Digest,
  ErrorCode,
  Key,
  Origin,
  Positive,
  ShortText,
  SiteName,
  StudyName,
  TimeMs,
  VersionId,
} from "./names.ts";
import { PartChoices, Provenance, VersionPart } from "./version-parts.ts";

const strict = { additionalProperties: false } as const;

/** 32 random bytes in base64url: the secret of an invitation, or a bearer token. */
export const Secret = Type.String({ pattern: "^[A-Za-z0-9_-]{43}$" });

/** RFC 9457 problem document. `type` ends in the code; `errors` lists faults of the request, never its content. */
export const Problem = Type.Object(
  {
    type: Type.String(),
    title: Type.String(),
    status: Type.Integer(),
    code: ErrorCode,
    retryable: Type.Boolean(),
    correlation: Type.String(),
    errors: Type.Optional(Type.Array(Type.String())),
  },
  strict,
);
export type Problem = Static<typeof Problem>;

export const FederationAnswer = Type.Object(
  { origin: Origin, coordinatorKey: Key, protocolVersions: Type.Array(Positive) },
  strict,
);
export type FederationAnswer = Static<typeof FederationAnswer>;

/** What an operator hands to a hospital, as `consilium-invitation-v1.` and the canonical JSON of this in base64url. */
export const InvitationToken = Type.Object(
  {
    url: Type.String({ pattern: "^https?://[^\\s]{1,200}$" }),
    origin: Origin,
    coordinatorKey: Key,
    site: SiteName,
    secret: Secret,
    expiresAtMs: TimeMs,
  },
  strict,
);
export type InvitationToken = Static<typeof InvitationToken>;
export const invitationTokenPrefix = "consilium-invitation-v1.";

export const EnrolmentBody = Type.Object({ secret: Secret, envelope: Envelope }, strict);
export const EnrolmentAnswer = Type.Object({ site: SiteName, origin: Origin, coordinatorKey: Key }, strict);

export const ChallengeBody = Type.Object({ site: SiteName }, strict);
export const ChallengeAnswer = Type.Object({ challenge: Digest, expiresInMs: Count }, strict);
export const SessionBody = Type.Object({ envelope: Envelope }, strict);
export const SessionAnswer = Type.Object({ token: Secret, expiresInMs: Count }, strict);

export const EnvelopeAnswer = Type.Object({ envelope: Envelope }, strict);

const HashText = Type.String({ minLength: 44, maxLength: 44 });
export const ProofAnswer = Type.Object({ proof: Type.Array(HashText, { maxItems: 64 }) }, strict);
export const InclusionAnswer = Type.Object(
  { leafHash: HashText, proof: Type.Array(HashText, { maxItems: 64 }) },
  strict,
);
export const CheckpointAnswer = Type.Object({ checkpoint: Type.String({ maxLength: 4096 }) }, strict);
/** Entries as the canonical JSON text that was hashed. */
export const EntriesAnswer = Type.Object(
  { from: Count, entries: Type.Array(Type.String(), { maxItems: entriesPerPageMax }) },
  strict,
);

// Operator

export const InvitationBody = Type.Object({ site: SiteName, validForMs: Type.Optional(Positive) }, strict);
export const InvitationAnswer = Type.Object(
  { invitation: Type.String(), site: SiteName, expiresAtMs: TimeMs },
  strict,
);

export const SiteAnswer = Type.Object(
  {
    site: SiteName,
    status: Type.Union([Type.Literal("active"), Type.Literal("suspended"), Type.Literal("retired")]),
    publicKey: Key,
    enrolledAtMs: TimeMs,
    connected: Type.Boolean(),
    /** As a witness, it has seen a log that does not continue the one it knew. */
    alarmed: Type.Boolean(),
  },
  strict,
);
export const SitesAnswer = Type.Object({ sites: Type.Array(SiteAnswer) }, strict);
export const ReasonBody = Type.Object({ reason: ShortText }, strict);

/** A plan to open. What the coordinator adds is left out: the start version and the digests. */
export const StudyBody = Type.Object(
  {
    plan: Type.Record(Type.String(), Type.Unknown()),
    start: Type.Union([
      Type.Object(
        { kind: Type.Literal("seeded"), seed: Type.Integer({ minimum: 0, maximum: 0xffffffff }) },
        strict,
      ),
      /** A weights blob that was uploaded before. */
      Type.Object(
        { kind: Type.Literal("imported"), sha256: Digest, provenance: Type.Optional(Provenance) },
        strict,
      ),
      Type.Object({ kind: Type.Literal("composed"), parts: PartChoices }, strict),
    ]),
  },
  strict,
);

export const StudyAnswer = Type.Object(
  {
    study: StudyName,
    title: ShortText,
    plan: Digest,
    phase: Type.String(),
    round: Count,
    rounds: Count,
    completedRounds: Count,
    deadlineMs: TimeMs,
    sites: Type.Array(
      Type.Object(
        {
          site: SiteName,
          approvedExamples: Type.Union([Count, Type.Null()]),
          connected: Type.Boolean(),
          accepted: Type.Boolean(),
          withdrawn: Type.Boolean(),
        },
        strict,
      ),
    ),
    last: Type.Union([VersionId, Type.Null()]),
    best: Type.Union([VersionId, Type.Null()]),
    bestMeanDice: Type.Union([Type.Number(), Type.Null()]),
    released: Type.Union([VersionId, Type.Null()]),
  },
  strict,
);
export type StudyAnswer = Static<typeof StudyAnswer>;
export const StudiesAnswer = Type.Object({ studies: Type.Array(StudyAnswer) }, strict);

export const VersionAnswer = Type.Object(
  {
    study: StudyName,
    version: VersionId,
    round: Count,
    parent: Type.Union([VersionId, Type.Null()]),
    contributors: Type.Array(SiteName),
    judged: Type.Union([Type.Literal("pending"), Type.Literal("promoted"), Type.Literal("rejected")]),
    meanDice: Type.Union([Type.Number(), Type.Null()]),
    weights: Type.Object({ sha256: Digest, bytes: Positive }, strict),
    released: Type.Boolean(),
    withdrawn: Type.Boolean(),
    /** Empty for a recipe of one part. */
    parts: Type.Array(VersionPart),
  },
  strict,
);
export type VersionAnswer = Static<typeof VersionAnswer>;
export const VersionsAnswer = Type.Object({ versions: Type.Array(VersionAnswer) }, strict);
export const ReleaseBody = Type.Object(
  { version: Type.Union([VersionId, Type.Null()]), reason: ShortText },
  strict,
);
export const WithdrawalBody = Type.Object({ site: SiteName, reason: ShortText }, strict);
/** `studies` start from a version that holds a contribution which was taken back; nothing in them is marked. */
export const WithdrawalAnswer = Type.Object(
  { versions: Type.Array(VersionId), studies: Type.Array(StudyName) },
  strict,
);

/** The verdict of `fsck`: what was looked at and everything that is wrong. */
export const VerificationAnswer = Type.Object(
  {
    ok: Type.Boolean(),
    entries: Count,
    checkpoint: Type.String(),
    faults: Type.Array(Type.String(), { maxItems: 1000 }),
  },
  strict,
);
export type VerificationAnswer = Static<typeof VerificationAnswer>;
