// A version as the log has it: its signed manifest, and whether it still stands.

import type { ModelVersionId } from "@consilium/shared/base/brand.ts";
import { openEnvelope } from "@consilium/shared/crypto/envelope.ts";
import { ModelVersionDocument, type ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";

export type RecordedVersion = {
  readonly manifest: ModelVersionManifest;
  /** It holds a contribution that its site has taken back. */
  readonly isWithdrawn: boolean;
};

/** Null where the log has no such version. */
export function recordedVersion(
  { opened, versions, studies }: FederationState,
  version: ModelVersionId,
): RecordedVersion | null {
  const record = versions.get(version);
  if (!record || !opened) return null;
  return {
    manifest: openEnvelope(ModelVersionDocument, record.envelope, opened.coordinatorKey),
    isWithdrawn: studies.get(record.study)?.versions.get(version)?.withdrawn ?? false,
  };
}
