// A JSON reader for the headers of tensor bundles: objects, arrays, strings and non-negative integers, nothing else.
// JSON.parse keeps the last of two equal keys, so two readers may see two different bundles in the same bytes; this
// one refuses a repeated key. Depth is bounded, and so is the work: it is linear in the text.

import { TensorBundleError } from "./tensor-bundle-error.ts";

export type HeaderValue = string | number | HeaderValue[] | HeaderObject;
/** Own keys only, no prototype: `__proto__` is a key like any other. */
export type HeaderObject = { [key: string]: HeaderValue };

/** The header's own nesting is 3: header, tensor, shape. */
export const HEADER_DEPTH_MAX = 3;

/** Tab, line feed, carriage return and space (RFC 8259 section 2). */
const SPACE_CODES: ReadonlySet<number> = new Set([0x09, 0x0a, 0x0d, 0x20]);

type Cursor = { readonly text: string; position: number };

/** @throws TensorBundleError for anything outside the subset, for repeated keys and for text after the value. */
export function parseHeaderJson(text: string): HeaderValue {
  const cursor = { text, position: 0 };
  const value = readValue(cursor, 1);
  skipSpace(cursor);
  if (cursor.position !== text.length) malformed(cursor, "text after the header object");
  return value;
}

function readValue(cursor: Cursor, depth: number): HeaderValue {
  skipSpace(cursor);
  const char = cursor.text[cursor.position];
  if (char === '"') return readString(cursor);
  if (char !== undefined && char >= "0" && char <= "9") return readInteger(cursor);
  if (char !== "{" && char !== "[")
    malformed(cursor, "expected an object, an array, a string or a whole number");
  if (depth > HEADER_DEPTH_MAX) malformed(cursor, "nested too deeply");
  return char === "{" ? readObject(cursor, depth) : readArray(cursor, depth);
}

function readObject(cursor: Cursor, depth: number): HeaderObject {
  const object: HeaderObject = Object.create(null);
  cursor.position += 1;
  if (take(cursor, "}")) return object;
  do {
    skipSpace(cursor);
    const key = readString(cursor);
    if (Object.hasOwn(object, key)) {
      throw new TensorBundleError(
        "bundle.name-repeated",
        `The header names the same key twice (at character ${cursor.position}); write each tensor once.`,
      );
    }
    if (!take(cursor, ":")) malformed(cursor, "expected a colon");
    object[key] = readValue(cursor, depth + 1);
  } while (take(cursor, ","));
  if (!take(cursor, "}")) malformed(cursor, "an object does not end");
  return object;
}

function readArray(cursor: Cursor, depth: number): HeaderValue[] {
  const items: HeaderValue[] = [];
  cursor.position += 1;
  if (take(cursor, "]")) return items;
  do items.push(readValue(cursor, depth + 1));
  while (take(cursor, ","));
  if (!take(cursor, "]")) malformed(cursor, "an array does not end");
  return items;
}

/** The grammar of one JSON string is left to JSON.parse, on exactly the characters between its quotes. */
function readString(cursor: Cursor): string {
  const { text, position: start } = cursor;
  if (text[start] !== '"') malformed(cursor, "expected a string");
  let end = start + 1;
  while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
  cursor.position = end + 1;
  try {
    const value: unknown = JSON.parse(text.slice(start, end + 1));
    if (typeof value === "string" && value.isWellFormed()) return value;
  } catch {
    // Reported below like every other fault.
  }
  return malformed(cursor, "a string is not valid");
}

function readInteger(cursor: Cursor): number {
  const start = cursor.position;
  while (isDigit(cursor.text.charCodeAt(cursor.position))) cursor.position += 1;
  const digits = cursor.text.slice(start, cursor.position);
  const value = Number(digits);
  if (!Number.isSafeInteger(value) || String(value) !== digits)
    malformed(cursor, "a number is not a whole number");
  return value;
}

function isDigit(code: number): boolean {
  return code >= 0x30 && code <= 0x39;
}

function skipSpace(cursor: Cursor): void {
  while (SPACE_CODES.has(cursor.text.charCodeAt(cursor.position))) cursor.position += 1;
}

function take(cursor: Cursor, char: string): boolean {
  skipSpace(cursor);
  if (cursor.text[cursor.position] !== char) return false;
  cursor.position += 1;
  return true;
}

function malformed(cursor: Cursor, what: string): never {
  throw new TensorBundleError(
    "bundle.header-not-json",
    `The header is not the JSON of a tensor bundle: ${what} (near character ${cursor.position}).`,
  );
}
