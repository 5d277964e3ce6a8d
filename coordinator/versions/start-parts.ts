// The parts of a start version and where they come from. Of what an operator claims, everything is checked that can be
// checked here: the bytes, what a seed draws, and what versions of this log hold. The rest is kept as a claim.

import type { Sha256 } from "@consilium/shared/base/brand.ts";
import type { RecipePart } from "@consilium/shared/model/recipe-parts.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import {
  isNameOf,
  type PartChoice,
  type PartOrigin,
  type Provenance,
  partDigestIn,
  type VersionPart,
} from "@consilium/shared/protocol/version-parts.ts";
import { type Composition, type FindVersion, standing } from "./compose-weights.ts";
import { drawnPartDigest, type PartDigests } from "./part-digests.ts";

type Claim = Provenance["parts"][number];

export type StatedStart = Composition & {
  /** Name of this log. */
  readonly origin: string;
  readonly weights: { readonly sha256: Sha256; readonly bytes: number };
  /** Of the bytes that are in the store. */
  readonly digests: PartDigests;
};

/** Every part with the same origin. */
export function partsFrom(digests: PartDigests, origin: PartOrigin): VersionPart[] {
  return [...digests].map(([part, sha256]) => ({ part, sha256, origin }));
}

/** @throws ProtocolError plan.invalid where a version's own manifest says that its part has another digest */
export function composedParts(
  digests: PartDigests,
  choices: readonly PartChoice[],
  findVersion: FindVersion,
): VersionPart[] {
  return [...digests].map(([part, sha256]) => {
    const from = choices.find((choice) => choice.part === part)?.from;
    if (!from) throw new ProtocolError("plan.invalid", [`start.parts: ${part} is not named`]);
    if (from.kind === "seeded") return { part, sha256, origin: from };
    const { manifest } = standing(findVersion(from.version));
    if (partDigestIn(manifest, part) !== sha256)
      throw new ProtocolError("plan.invalid", [
        `start.parts: that version's ${part} is not what its manifest names`,
      ]);
    return { part, sha256, origin: { kind: "version", study: manifest.study, version: from.version } };
  });
}

/** @throws ProtocolError provenance.refused with every fault */
export function statedParts(stated: StatedStart, provenance: Provenance): VersionPart[] {
  const { parts, weights } = stated;
  const faults: string[] = [];
  if (provenance.weights.sha256 !== weights.sha256 || provenance.weights.bytes !== weights.bytes)
    faults.push("weights: the provenance is that of another file");
  if (provenance.parts.map(({ part }) => part).join() !== parts.map(({ part }) => part).join())
    faults.push(`parts: not exactly ${parts.map(({ part }) => part).join(", ")}, in this order`);
  else
    for (const [at, claim] of provenance.parts.entries())
      faults.push(...claimFaults(stated, claim, parts[at]));
  if (faults.length > 0) throw new ProtocolError("provenance.refused", faults);
  return provenance.parts.map(({ part, sha256, origin }) => ({
    part,
    sha256,
    origin: recordedOrigin(origin, { log: stated.origin, claimedBy: provenance.claimedBy }),
  }));
}

function claimFaults(stated: StatedStart, claim: Claim, one: RecipePart | undefined): string[] {
  const { part, sha256, origin } = claim;
  if (!one || stated.digests.get(part) !== sha256) return [`${part}: the file's tensors have another digest`];
  switch (origin.kind) {
    case "seeded": {
      const { architecture, config } = stated;
      const { parameters } = one;
      const drawn = drawnPartDigest(architecture, config, { part, seed: origin.seed, parameters });
      return drawn === sha256 ? [] : [`${part}: seed ${origin.seed} draws another`];
    }
    case "checkpoint":
      return isNameOf(origin.name, origin.sha256)
        ? []
        : [`${part}: no published checkpoint of that name has that digest`];
    case "version":
      return origin.log === stated.origin ? versionFaults(stated, claim, origin) : [];
  }
}

function versionFaults(
  { findVersion }: StatedStart,
  { part, sha256 }: Claim,
  origin: Extract<Claim["origin"], { kind: "version" }>,
): string[] {
  const known = findVersion(origin.version);
  if (!known || known.manifest.study !== origin.study)
    return [`${part}: the log has no version ${origin.version} of study ${origin.study}`];
  if (known.isWithdrawn) return [`${part}: version ${origin.version} was withdrawn`];
  return partDigestIn(known.manifest, part) === sha256
    ? []
    : [`${part}: version ${origin.version} has another ${part}`];
}

/** What was not checked is marked as the word of whoever said so. */
function recordedOrigin(
  origin: Claim["origin"],
  { log, claimedBy }: { log: string; claimedBy: string },
): PartOrigin {
  switch (origin.kind) {
    case "seeded":
      return origin;
    case "checkpoint":
      return { ...origin, claimedBy };
    case "version": {
      const { study, version } = origin;
      return origin.log === log
        ? { kind: "version", study, version }
        : { ...origin, kind: "foreign", claimedBy };
    }
  }
}
