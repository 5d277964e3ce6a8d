// What the model of a study starts from, in words: of each part its digest and where it comes from, as the coordinator has
// signed it. What nobody has checked is marked there as a claim.

import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { ModelVersionManifest } from "@consilium/shared/protocol/documents.ts";
import { originWords, type PartOrigin } from "@consilium/shared/protocol/version-parts.ts";
import { openStartVersion } from "../work/checked-documents.ts";
import type { Connection } from "./connection.ts";

/** @throws StudyError, ProtocolError, TransportError */
export async function fetchStart(
  { client, enrolled: { file, identity } }: Connection,
  plan: StudyPlan,
): Promise<ModelVersionManifest> {
  const envelope = await client.version(plan.startVersion);
  return openStartVersion(envelope, { key: file.coordinatorKey, origin: identity.origin, plan });
}

export type StartFacts = Pick<ModelVersionManifest, "from" | "weights" | "parts">;

export function startFacts({ from, weights, parts }: ModelVersionManifest): StartFacts {
  return { from, weights, ...(parts && { parts }) };
}

export function startLines({ weights, from, parts }: StartFacts): string[] {
  const whole: PartOrigin = from.kind === "seeded" ? from : { kind: "unstated" };
  const named = parts ?? [{ part: "model", sha256: weights.sha256, origin: whole }];
  return [
    "Starts from:",
    ...named.map(({ part, sha256, origin }) => `  - ${part} ${sha256}: ${originWords(origin)}`),
  ];
}
