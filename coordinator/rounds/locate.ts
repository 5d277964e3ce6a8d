// Messages of the study machine name versions; sites need to know where the weights are and what they hash to.

import type { ModelVersionId } from "@consilium/shared/base/brand.ts";
import type { ToSite, VersionReference } from "@consilium/shared/protocol/messages.ts";
import type { RoundMessage } from "@consilium/shared/protocol/round-events.ts";
import type { StudyState } from "@consilium/shared/protocol/study-state.ts";

/** Null when the version is not of this study, which an honest machine never names. */
export function locate(state: StudyState, message: RoundMessage): ToSite | null {
  const reference = (version: ModelVersionId): VersionReference | null => {
    const found = state.versions.get(version);
    return found ? { version, weights: { sha256: found.weights.sha256, bytes: found.weights.bytes } } : null;
  };
  switch (message.kind) {
    case "round.offer": {
      const base = reference(message.base);
      return base && { ...message, base };
    }
    case "evaluation.offer": {
      const candidate = reference(message.candidate);
      return candidate && { ...message, candidate };
    }
    case "version.released": {
      if (message.released === null) return { ...message, released: null };
      const released = reference(message.released);
      return released && { ...message, released };
    }
    default:
      return message;
  }
}
