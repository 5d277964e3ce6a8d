// A version as the log has it: its signed manifest, and whether it still stands.

import type { ModelVersionId } from "@consilium/shared/base/brand.ts";
import { openEnvelope } from "@consilium/shared/crypto/envelope.ts";
import { ModelVersionDocument, type ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import type { FederationState } from "@consilium/shared/protocol/federation.ts";
import { holdsWithdrawn, type ManifestOf, partHistory } from "./part-history.ts";

export type RecordedVersion = {
  readonly manifest: ModelVersionManifest;
  /** It holds a contribution that its site has taken back, here or in a study that a part of it comes from. */
  readonly isWithdrawn: boolean;
};

/** Null where the log has no such version. */
export function recordedVersion(state: FederationState, version: ModelVersionId): RecordedVersion | null {
  const manifestOf = recordedManifests(state);
  const manifest = manifestOf(version);
  if (!manifest) return null;
  const { study, parts = [] } = manifest;
  const isMarked = state.studies.get(study)?.versions.get(version)?.withdrawn ?? false;
  const isWithdrawn =
    isMarked || parts.some(({ part }) => holdsWithdrawn(state, partHistory(manifestOf, version, part)));
  return { manifest, isWithdrawn };
}

/** The signed manifests of a log's versions. */
export function recordedManifests({ opened, versions }: FederationState): ManifestOf {
  return (version) => {
    const record = versions.get(version);
    return record && opened
      ? openEnvelope(ModelVersionDocument, record.envelope, opened.coordinatorKey)
      : undefined;
  };
}
