// The documents that one party signs and others keep: each has a media type of its own, so that a signature given
// for one purpose never serves another. `origin` ties every document to one federation's log.

import { type Static, Type } from "typebox";
import { documentType } from "../crypto/envelope.ts";
import { EvaluationReport } from "../evaluation/evaluation-report.ts";
import {
  Count,
  Digest,
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
import { VersionParts } from "./version-parts.ts";

const strict = { additionalProperties: false } as const;

/** A site presents its key. Signed with that key: proof of possession. */
export const EnrolmentRequest = Type.Object(
  { origin: Origin, site: SiteName, invitation: Digest, publicKey: Key, agent: ShortText },
  strict,
);
export type EnrolmentRequest = Static<typeof EnrolmentRequest>;
export const EnrolmentDocument = documentType("enrolment", EnrolmentRequest);

/** A site answers a challenge to get a session token. */
export const SessionRequest = Type.Object({ origin: Origin, site: SiteName, challenge: Digest }, strict);
export const SessionDocument = documentType("session", SessionRequest);

/** A hospital approves one plan, with the number of training cases it brings. */
export const PlanApproval = Type.Object(
  {
    origin: Origin,
    site: SiteName,
    study: StudyName,
    plan: Digest,
    examples: Positive,
    approver: ShortText,
    approvedAtMs: TimeMs,
  },
  strict,
);
export type PlanApproval = Static<typeof PlanApproval>;
export const ApprovalDocument = documentType("plan-approval", PlanApproval);

/** Which compute backend produced an update. */
export const BackendStatement = Type.Object(
  {
    name: Type.String({ pattern: "^[a-z0-9-]{1,40}$" }),
    version: ShortText,
    devices: Type.Array(ShortText, { maxItems: 16 }),
    isGpu: Type.Boolean(),
  },
  strict,
);

/** What a site says of the tensors it submits. */
export const UpdateStatement = Type.Object(
  {
    origin: Origin,
    site: SiteName,
    study: StudyName,
    plan: Digest,
    round: RoundNumber,
    baseVersion: VersionId,
    delta: Type.Object({ sha256: Digest, bytes: Positive }, strict),
    /** Training cases that took part. */
    examples: Positive,
    steps: Positive,
    /** L2 norm of the whole delta before and after the protect stage. */
    normL2: Type.Object({ trained: Type.Number({ minimum: 0 }), sent: Type.Number({ minimum: 0 }) }, strict),
    loss: Type.Object({ first: Type.Number(), last: Type.Number() }, strict),
    backend: BackendStatement,
  },
  strict,
);
export type UpdateStatement = Static<typeof UpdateStatement>;
export const UpdateDocument = documentType("update", UpdateStatement);

/** A site's measurement of one version on its own validation cases. */
export const EvaluationStatement = Type.Object(
  {
    origin: Origin,
    site: SiteName,
    study: StudyName,
    plan: Digest,
    version: VersionId,
    report: EvaluationReport,
  },
  strict,
);
export type EvaluationStatement = Static<typeof EvaluationStatement>;
export const EvaluationDocument = documentType("evaluation", EvaluationStatement);

/** A site has put a released version into use, or, with null, has taken the last one out of use. */
export const InstallationStatement = Type.Object(
  {
    origin: Origin,
    site: SiteName,
    study: StudyName,
    version: Type.Union([VersionId, Type.Null()]),
    installedAtMs: TimeMs,
  },
  strict,
);
export type InstallationStatement = Static<typeof InstallationStatement>;
export const InstallationDocument = documentType("installation", InstallationStatement);

/** A witness has seen a checkpoint that does not continue the one it holds. */
export const AlarmStatement = Type.Object(
  {
    origin: Origin,
    site: SiteName,
    heldSize: Count,
    offeredSize: Count,
    reason: Type.Union([Type.Literal("inconsistent"), Type.Literal("shrunk"), Type.Literal("bad-signature")]),
  },
  strict,
);
export type AlarmStatement = Static<typeof AlarmStatement>;
export const AlarmDocument = documentType("witness-alarm", AlarmStatement);

/** One site's part in a version. */
export const Contribution = Type.Object(
  { site: SiteName, delta: Digest, update: Digest, examples: Positive },
  strict,
);
export type Contribution = Static<typeof Contribution>;

/** How a version's weights came to be. */
export const VersionOrigin = Type.Union([
  Type.Object(
    { kind: Type.Literal("seeded"), seed: Type.Integer({ minimum: 0, maximum: 0xffffffff }) },
    strict,
  ),
  Type.Object({ kind: Type.Literal("imported") }, strict),
  /** Put together by the coordinator from parts of versions in its log and from seeds. */
  Type.Object({ kind: Type.Literal("composed") }, strict),
  Type.Object(
    {
      kind: Type.Literal("aggregated"),
      round: RoundNumber,
      rule: Type.Literal("fedavg"),
      parent: VersionId,
      contributions: Type.Array(Contribution, { minItems: 2, maxItems: 64 }),
    },
    strict,
  ),
]);

/** The manifest of a model version; its digest is the version's identifier. Holds no time, so it is reproducible. */
export const ModelVersionManifest = Type.Object(
  {
    origin: Origin,
    study: StudyName,
    /** Null for a start version, which exists before the plan that names it. */
    plan: Type.Union([Digest, Type.Null()]),
    recipe: Type.Object({ id: Type.String({ pattern: "^[a-z0-9-]{1,40}$" }), version: Positive }, strict),
    parameterManifest: Digest,
    weights: Type.Object({ sha256: Digest, bytes: Positive }, strict),
    from: VersionOrigin,
    /** Of a recipe with several parts, and of no other. */
    parts: Type.Optional(VersionParts),
  },
  strict,
);
export type ModelVersionManifest = Static<typeof ModelVersionManifest>;
export const ModelVersionDocument = documentType("model-version", ModelVersionManifest);
