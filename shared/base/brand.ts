// Nominal types: a checked value has another type than the text it came from. Each brand is minted in one place,
// by parsing; nothing else may cast to it.

declare const brand: unique symbol;
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };

/** Name of a hospital in the federation, for ever: lower-case letters, digits and inner hyphens, 2-63 characters. */
export type SiteId = Brand<string, "SiteId">;
/** Name of a study, same alphabet. */
export type StudyId = Brand<string, "StudyId">;
/** SHA-256 as 64 lower-case hexadecimal digits. */
export type Sha256 = Brand<string, "Sha256">;
/** Digest of a model version's manifest; the version's only name on the wire. */
export type ModelVersionId = Brand<string, "ModelVersionId">;
/** `ed25519:` and the raw 32-byte public key in base64url. */
export type PublicKey = Brand<string, "PublicKey">;

export const slugPattern = "^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])$";
export const sha256Pattern = "^[0-9a-f]{64}$";
export const publicKeyPattern = "^ed25519:[A-Za-z0-9_-]{43}$";

export class NameError extends Error {
  override name = "NameError";
  readonly code = "name.malformed";
}

function parse<T extends string>(value: string, pattern: string, what: string): T {
  if (!new RegExp(pattern).test(value)) throw new NameError(`not a ${what}: use the form ${pattern}`);
  return value as T; // The pattern is the whole definition of the brand.
}

export const siteId = (value: string): SiteId => parse(value, slugPattern, "site name");
export const studyId = (value: string): StudyId => parse(value, slugPattern, "study name");
export const sha256 = (value: string): Sha256 => parse(value, sha256Pattern, "SHA-256 digest");
export const modelVersionId = (value: string): ModelVersionId => parse(value, sha256Pattern, "model version");
export const publicKey = (value: string): PublicKey => parse(value, publicKeyPattern, "public key");
