// RFC 8785 (JSON Canonicalization Scheme): the one encoding of everything that is hashed or signed. The reader is
// strict: text that is not byte for byte the canonical form of what it says is refused, so whitespace, key order,
// duplicate keys and alternative number spellings carry no information.

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** Nesting deeper than this has no honest use here. */
export const jsonDepthMax = 32;

export type CanonicalJsonErrorCode =
  | "json.too-deep"
  | "json.not-encodable"
  | "json.malformed"
  | "json.not-canonical";

export class CanonicalJsonError extends Error {
  override name = "CanonicalJsonError";
  readonly code: CanonicalJsonErrorCode;
  constructor(code: CanonicalJsonErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** @throws CanonicalJsonError for numbers, strings or nesting that I-JSON (RFC 7493) cannot carry. */
export function encodeCanonicalJson(value: Json): Uint8Array {
  return new TextEncoder().encode(canonicalText(value, 0));
}

/** The canonical form as text, for places that store text. */
export function canonicalJsonText(value: Json): string {
  return canonicalText(value, 0);
}

/**
 * Parse bytes that must already be canonical.
 * @throws CanonicalJsonError when they are not UTF-8, not JSON, too deep or not the canonical form of themselves.
 */
export function decodeCanonicalJson(bytes: Uint8Array): Json {
  let text: string;
  let value: Json;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text) as Json; // JSON.parse returns nothing else; the form is checked below.
  } catch (cause) {
    throw new CanonicalJsonError("json.malformed", "not UTF-8 encoded JSON", { cause });
  }
  if (canonicalText(value, 0) !== text) {
    throw new CanonicalJsonError("json.not-canonical", "JSON is not in its RFC 8785 canonical form");
  }
  return value;
}

function canonicalText(value: Json, depth: number): string {
  if (depth > jsonDepthMax)
    throw new CanonicalJsonError("json.too-deep", `nested deeper than ${jsonDepthMax}`);
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "number") return numberText(value);
  if (typeof value === "string") return stringText(value);
  if (Array.isArray(value)) return `[${value.map((item: Json) => canonicalText(item, depth + 1)).join(",")}]`;
  if (typeof value !== "object")
    throw new CanonicalJsonError("json.not-encodable", `cannot encode ${typeof value}`);
  // Sorting by UTF-16 code units is what RFC 8785 section 3.2.3 asks for and what Array.prototype.sort does.
  const members = Object.entries(value)
    .filter(([, member]) => member !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, member]) => `${stringText(key)}:${canonicalText(member, depth + 1)}`);
  return `{${members.join(",")}}`;
}

function numberText(value: number): string {
  if (!Number.isFinite(value)) throw new CanonicalJsonError("json.not-encodable", "numbers must be finite");
  return JSON.stringify(value); // ECMAScript's number form is the one RFC 8785 section 3.2.2.3 prescribes.
}

function stringText(value: string): string {
  if (!value.isWellFormed())
    throw new CanonicalJsonError("json.not-encodable", "text holds a lone surrogate");
  return JSON.stringify(value);
}
