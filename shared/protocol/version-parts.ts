// The parts of a version: which bytes each is, and where they come from. What the coordinator has not seen for itself
// stands as the word of whoever put the start model together.

import { type Static, Type } from "typebox";
import type { Sha256 } from "../base/brand.ts";
import { findArchitecture } from "../model/recipe-architectures.ts";
import type { RecipePart } from "../model/recipe-parts.ts";
import { publishedSam2 } from "../model/sam2-published.ts";
import { Digest, Origin, PartName, Positive, ShortText, StudyName, VersionId } from "./names.ts";

const strict = { additionalProperties: false } as const;
const partsMax = 3;

const SeededPart = Type.Object(
  { kind: Type.Literal("seeded"), seed: Type.Integer({ minimum: 0, maximum: 0xffffffff }) },
  strict,
);
/** The part of an earlier version in the same log: it has the same digest there. */
const VersionPartOrigin = Type.Object(
  { kind: Type.Literal("version"), study: StudyName, version: VersionId },
  strict,
);
const checkpoint = {
  kind: Type.Literal("checkpoint"),
  /** Of the whole file, of which this log holds nothing but the tensors. */
  sha256: Digest,
  /** Of the published file with that digest; null for every other. Null first: routes coerce it to a text else. */
  name: Type.Union([Type.Null(), ShortText]),
};
/** A version of another federation, or a model that a site has trained alone. */
const foreign = { kind: Type.Literal("foreign"), log: Origin, study: StudyName, version: VersionId };
const claimed = { claimedBy: ShortText };

/** Where the bytes of a part come from. A part that no round trains keeps its origin from version to version. */
export const PartOrigin = Type.Union([
  SeededPart,
  VersionPartOrigin,
  Type.Object({ ...checkpoint, ...claimed }, strict),
  Type.Object({ ...foreign, ...claimed }, strict),
  /** Imported by an operator who did not say from where. */
  Type.Object({ kind: Type.Literal("unstated") }, strict),
  /** Trained in the round that made the version; `base` is the part's digest in the parent. */
  Type.Object({ kind: Type.Literal("trained"), base: Digest }, strict),
]);
export type PartOrigin = Static<typeof PartOrigin>;

export const VersionPart = Type.Object({ part: PartName, sha256: Digest, origin: PartOrigin }, strict);
export type VersionPart = Static<typeof VersionPart>;
/** In the order of the recipe. */
export const VersionParts = Type.Array(VersionPart, { minItems: 2, maxItems: partsMax });

/** Where each part of one weights file comes from, in the words of whoever put it together. */
export const Provenance = Type.Object(
  {
    type: Type.Literal("consilium-provenance/v1"),
    claimedBy: ShortText,
    weights: Type.Object({ sha256: Digest, bytes: Positive }, strict),
    parts: Type.Array(
      Type.Object(
        {
          part: PartName,
          sha256: Digest,
          origin: Type.Union([
            SeededPart,
            Type.Object(checkpoint, strict),
            /** A version of the log that is named, which need not be the one that the file is handed to. */
            Type.Object({ ...foreign, kind: Type.Literal("version") }, strict),
          ]),
        },
        strict,
      ),
      { minItems: 2, maxItems: partsMax },
    ),
  },
  strict,
);
export type Provenance = Static<typeof Provenance>;

/** Where the provenance of a weights file lies: beside it. */
export function provenanceFile(weightsFile: string): string {
  return `${weightsFile}.provenance.json`;
}

/** What a start model is put together from by the coordinator itself. */
export const PartChoice = Type.Object(
  {
    part: PartName,
    from: Type.Union([
      SeededPart,
      Type.Object({ kind: Type.Literal("version"), version: VersionId }, strict),
    ]),
  },
  strict,
);
export const PartChoices = Type.Array(PartChoice, { minItems: 2, maxItems: partsMax });
export type PartChoice = Static<typeof PartChoice>;

export class FrozenPartError extends Error {
  override name = "FrozenPartError";
  readonly code = "version.frozen-part-changed";
}

type WithParts = {
  readonly recipe: { readonly id: string; readonly version: number };
  readonly weights: { readonly sha256: Sha256 };
  readonly parts?: readonly VersionPart[];
};

/** Digest of a part; null where the version has none of that name. The one part of a recipe is the weights file. */
export function partDigestIn({ recipe, weights, parts }: WithParts, part: PartName): Sha256 | null {
  if (parts) return parts.find((one) => one.part === part)?.sha256 ?? null;
  return findArchitecture(recipe)?.partNames.join() === part ? weights.sha256 : null;
}

/**
 * The parts of a version that a round made: what it trains follows from the parent's part, the rest stays as it is.
 * @throws FrozenPartError when a part that the plan does not train is another than the parent's
 */
export function partsAfterRound(
  parent: readonly VersionPart[],
  parts: readonly RecipePart[],
  digests: ReadonlyMap<PartName, Sha256>,
): VersionPart[] {
  return parts.map(({ part, isTrained }) => {
    const before = parent.find((one) => one.part === part);
    const sha256 = digests.get(part);
    if (!before || !sha256) throw new FrozenPartError(`part ${part} is missing in a version or its parent`);
    if (isTrained) return { part, sha256, origin: { kind: "trained", base: before.sha256 } };
    if (sha256 !== before.sha256)
      throw new FrozenPartError(`part ${part} is frozen under the plan and has changed`);
    return before;
  });
}

/** Whether a checkpoint may be called so: only a published file has a name. */
export function isNameOf(name: string | null, sha256: Sha256): boolean {
  return name === null || name === publishedSam2(sha256);
}

/** One origin, as far as its own document says. */
export function originWords(origin: PartOrigin): string {
  switch (origin.kind) {
    case "seeded":
      return `drawn from seed ${origin.seed}`;
    case "version":
      return `taken from version ${origin.version} of study ${origin.study}`;
    case "checkpoint": {
      const name = origin.name === null ? "an unpublished checkpoint" : `checkpoint ${origin.name}`;
      return `${name} with SHA-256 ${origin.sha256}, as ${claimant(origin.claimedBy)} claims`;
    }
    case "foreign": {
      const { study, version, log, claimedBy } = origin;
      return `version ${version} of study ${study} in ${log}, as ${claimant(claimedBy)} claims`;
    }
    case "unstated":
      return "imported, its origin not stated";
    case "trained":
      return `trained from ${origin.base}`;
  }
}

function claimant(claimedBy: string): string {
  return claimedBy === "" ? "whoever put it together" : claimedBy;
}
