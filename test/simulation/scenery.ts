// The documents of a simulated study: a plan, envelopes without signatures, digests of made-up tensors. Numbers and
// signatures have tests of their own; here only order, time and failure matter.

import { createHash } from "node:crypto";
import type { ModelVersionId, PublicKey, Sha256, SiteId, StudyId } from "@consilium/shared/base/brand.ts";
import type { Prng } from "@consilium/shared/base/prng.ts";
import type { Envelope } from "@consilium/shared/crypto/envelope.ts";
import type { StudyPlan } from "@consilium/shared/model/study-plan.ts";

export const study = "simulated" as StudyId; // Scenery: the brand's form holds.
export const origin = "consilium.test/simulation";
export const startVersion = digest("start version") as string as ModelVersionId; // A digest, as a version id is.

export function digest(text: string): Sha256 {
  return createHash("sha256").update(text).digest("hex") as Sha256; // 64 hexadecimal digits.
}

export const siteName = (index: number): SiteId => `site-${index}` as SiteId; // Scenery: the brand's form holds.
export const siteKey = (site: SiteId): PublicKey => `ed25519:${digest(site).slice(0, 43)}` as PublicKey; // Never used to verify.

/** An envelope that carries `document` and no signature worth the name. */
export function unsigned(document: unknown, site: SiteId): Envelope {
  const payload = Buffer.from(JSON.stringify(document)).toString("base64");
  return {
    payload,
    payloadType: "application/json",
    signatures: [{ keyid: siteKey(site), sig: "A".repeat(86).concat("==") }],
  };
}

export function documentOf<T>(envelope: Envelope): T {
  return JSON.parse(Buffer.from(envelope.payload, "base64").toString()) as T; // Written by `unsigned` above.
}

export type SimulatedUpdate = {
  site: SiteId;
  round: number;
  plan: Sha256;
  baseVersion: ModelVersionId;
  delta: Sha256;
  examples: number;
  broken: boolean;
};
export type SimulatedReport = { site: SiteId; version: ModelVersionId; meanDice: number };
export type SimulatedApproval = { site: SiteId; plan: Sha256; examples: number };

/** The version that a set of updates makes: any other base, set or order makes another. */
export function versionOf(
  base: ModelVersionId,
  accepted: readonly { site: SiteId; delta: Sha256; examples: number }[],
): ModelVersionId {
  const text = accepted.map((one) => `${one.site} ${one.delta} ${one.examples}`).join("\n");
  return digest(`${base}\n${text}`) as string as ModelVersionId; // A digest, as a version id is.
}

export function weightsOf(version: ModelVersionId): { sha256: Sha256; bytes: number } {
  return { sha256: digest(version), bytes: 1 };
}

export function drawPlan(prng: Prng, sites: readonly SiteId[]): StudyPlan {
  return {
    study,
    title: "Simulated study",
    labels: [{ id: 1, name: "organ" }],
    partialLabels: "per-site",
    recipe: { id: "none", version: 1, config: {} },
    startVersion,
    parameterManifest: digest("manifest"),
    preprocessing: {
      orientation: "RAS",
      sliceAxis: "S",
      inPlaneSpacingMm: null,
      throughPlaneSpacingMm: null,
      imageOrder: 1,
      patch: { height: 64, width: 64 },
      largerThanPatch: "crop",
      padding: "zero",
      contextSlices: 0,
      normalisation: { kind: "zscore" },
    },
    training: {
      stepsPerRound: 1,
      batchSize: 1,
      learningRate: 0.001,
      weightDecay: 0,
      gradientNormL2Max: 1,
      schedule: "polynomial",
      warmupSteps: 0,
      augmentation: "none",
      mirrorAxes: [],
      seed: 1,
    },
    rounds: {
      count: prng.int(2, 5),
      quorum: prng.int(2, sites.length),
      recruitmentMs: prng.int(1000, 3000),
      trainingMs: prng.int(1000, 3000),
      evaluationMs: prng.int(1000, 2000),
      abandonedInARowMax: 1000,
    },
    sites: [...sites],
    aggregation: { rule: "fedavg", weighting: "examples", examplesPerSiteMax: 1000 },
    protection: { kind: "clip", normL2: 1 },
    acceptance: { metric: "mean-dice", minGain: 0, siteDropMax: prng.pick([0.02, 0.1, 1]) },
    evaluation: { slicesPerCase: null },
    retention: { updateDays: null },
  };
}
