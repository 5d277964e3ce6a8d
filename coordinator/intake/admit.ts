// The way of a submitted update into a round: cheap checks first, its tensors last. Everything here comes from a site
// and is hostile until checked. What passes becomes an `update` event of the study's machine, what does not becomes a
// refusal with its code; the machine checks again where it acts.

import type { Sha256, SiteId } from "@consilium/shared/base/brand.ts";
import { type Envelope, envelopeDigest, openEnvelope } from "@consilium/shared/crypto/envelope.ts";
import { TensorBundleError } from "@consilium/shared/encoding/tensor-bundle-error.ts";
import type { ParameterManifest } from "@consilium/shared/model/parameter-manifest.ts";
import { UpdateDocument, type UpdateStatement } from "@consilium/shared/protocol/documents.ts";
import type { Site } from "@consilium/shared/protocol/enrolment.ts";
import type { ProtocolErrorCode } from "@consilium/shared/protocol/errors.ts";
import { objection } from "@consilium/shared/protocol/round.ts";
import type { RoundContext, RoundEvent } from "@consilium/shared/protocol/round-events.ts";
import type { StudyState } from "@consilium/shared/protocol/study-state.ts";
import type { VectorKernel } from "../aggregation/vector-kernel.ts";
import type { ArtifactStore } from "../versions/artifact-store.ts";
import { holdsExactly, TensorReader } from "../versions/tensor-reader.ts";
import { exceeds, measure } from "./finite-and-bounded.ts";

type WithoutTime<E> = E extends unknown ? Omit<E, "nowMs"> : never;
/** What intake hands to the study's machine; the runner adds the time. */
export type IntakeEvent = WithoutTime<Extract<RoundEvent, { kind: "update" | "update-refused" }>>;

export type IntakePorts = {
  readonly store: ArtifactStore;
  readonly kernel: VectorKernel;
  /** Whether this site itself has shown these bytes: knowing the digest of another's update is not enough. */
  readonly hasUploaded: (site: SiteId, sha256: Sha256) => boolean;
};

export type Intake = {
  readonly statement: UpdateStatement;
  readonly envelope: Envelope;
  readonly state: StudyState;
  readonly context: RoundContext;
  readonly manifest: ParameterManifest;
};

/**
 * The signed statement in an envelope of `sender`.
 * @throws EnvelopeError; a statement that names another site or federation is no statement of the sender's
 */
export function openStatement(envelope: unknown, sender: Site, origin: string): UpdateStatement | null {
  const statement = openEnvelope(UpdateDocument, envelope, sender.publicKey);
  return statement.site === sender.site && statement.origin === origin ? statement : null;
}

export async function admit(
  { statement, envelope, state, context, manifest }: Intake,
  ports: IntakePorts,
): Promise<IntakeEvent> {
  const update = envelopeDigest(envelope);
  const { site, round, plan, baseVersion, examples, delta } = statement;
  const submitted = { site, round, plan, baseVersion, examples, delta: delta.sha256, update };
  const known = state.latestAccepted.get(site) === update;
  const code = known
    ? null
    : (objection(state, submitted, context) ??
      (await tensorObjection(statement, { manifest, context, ports })));
  return code
    ? { kind: "update-refused", site, round, update, code }
    : { kind: "update", ...submitted, envelope };
}

type TensorCheck = {
  readonly manifest: ParameterManifest;
  readonly context: RoundContext;
  readonly ports: IntakePorts;
};

async function tensorObjection(
  { site, delta }: UpdateStatement,
  check: TensorCheck,
): Promise<ProtocolErrorCode | null> {
  const { store, kernel, hasUploaded } = check.ports;
  const isHere = hasUploaded(site, delta.sha256) && store.size(delta.sha256) === delta.bytes;
  if (!isHere) return "update.blob-missing";
  let reader: TensorReader;
  try {
    reader = TensorReader.open(store, delta.sha256);
  } catch (error) {
    if (error instanceof TensorBundleError) return "update.malformed";
    throw error;
  }
  try {
    if (!holdsExactly(reader, check.manifest)) return "update.manifest-mismatch";
    const magnitude = await measure(reader, check.manifest, kernel);
    if (!magnitude.isFinite) return "update.not-finite";
    return exceeds(magnitude.normL2, check.context.plan.protection.normL2) ? "update.norm-exceeded" : null;
  } finally {
    reader.close();
  }
}
