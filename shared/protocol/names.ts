// Schemas of the identifiers that occur in documents, records and messages. A schema checks the form; the brands of
// shared/base carry the result.

import { type Static, type TUnsafe, Type } from "typebox";
import {
  type ModelVersionId,
  type PublicKey,
  publicKeyPattern,
  type Sha256,
  type SiteId,
  type StudyId,
  sha256Pattern,
  slugPattern,
} from "../base/brand.ts";

const branded = <T extends string>(pattern: string): TUnsafe<T> => Type.Unsafe<T>(Type.String({ pattern }));

export const SiteName = branded<SiteId>(slugPattern);
export const StudyName = branded<StudyId>(slugPattern);
export const Digest = branded<Sha256>(sha256Pattern);
export const VersionId = branded<ModelVersionId>(sha256Pattern);
export const Key = branded<PublicKey>(publicKeyPattern);

/** Milliseconds since 1970 UTC. */
export const TimeMs = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
export const Count = Type.Integer({ minimum: 0, maximum: 1_000_000_000 });
export const Positive = Type.Integer({ minimum: 1, maximum: 1_000_000_000 });
export const RoundNumber = Type.Integer({ minimum: 1, maximum: 1_000_000 });
/** Name of a log: what C2SP calls its origin. */
export const Origin = Type.String({ pattern: "^[a-z0-9][a-z0-9./-]{2,127}$" });
/** Text typed by an operator: one line, no control characters. Never anything about a patient. */
export const ShortText = Type.String({ maxLength: 200, pattern: "^[^\\u0000-\\u001f\\u007f]*$" });
/** A part of a recipe's weights that has a lineage of its own. */
export const PartName = Type.Union([
  Type.Literal("prompter"),
  Type.Literal("sam2"),
  Type.Literal("adapters"),
]);
export type PartName = Static<typeof PartName>;
export const ErrorCode = Type.String({ pattern: "^[a-z]+(?:[.-][a-z]+)*$", maxLength: 64 });
