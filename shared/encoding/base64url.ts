// Base64 in both alphabets, decoded strictly: exactly one text stands for each byte string, so that no bit of a
// signed document can be changed without changing what it says.

export class Base64Error extends Error {
  override name = "Base64Error";
  readonly code = "base64.malformed";
}

/** Standard alphabet with padding (RFC 4648 section 4), as DSSE and C2SP use it. */
export function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64");
}

/** @throws Base64Error when the text is not the one canonical encoding. */
export function fromBase64(text: string): Uint8Array {
  const bytes = Buffer.from(text, "base64");
  if (bytes.toString("base64") !== text) throw new Base64Error("not canonical base64");
  return new Uint8Array(bytes);
}

/** URL alphabet without padding (RFC 4648 section 5), for keys and invitations. */
export function toBase64Url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64url");
}

/** @throws Base64Error when the text is not the one canonical encoding. */
export function fromBase64Url(text: string): Uint8Array {
  const bytes = Buffer.from(text, "base64url");
  if (bytes.toString("base64url") !== text) throw new Base64Error("not canonical base64url");
  return new Uint8Array(bytes);
}
