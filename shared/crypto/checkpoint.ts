// A signed tree head as text: C2SP tlog-checkpoint inside a C2SP signed-note with Ed25519 signatures. The first
// signature is the log's own; further ones may be cosignatures of witnesses.

import type { PublicKey } from "../base/brand.ts";
import { fromBase64, toBase64 } from "../encoding/base64url.ts";
import { sha256Bytes } from "./digest.ts";
import { publicKeyBytes, type SigningKey, verifySignature } from "./keys.ts";
import type { TreeHead } from "./merkle.ts";

export type Checkpoint = TreeHead & { readonly origin: string };

/** A checkpoint and four cosignatures stay far below this. */
export const checkpointBytesMax = 4096;

export class CheckpointError extends Error {
  override name = "CheckpointError";
  readonly code: "checkpoint.malformed" | "checkpoint.not-signed";
  constructor(code: CheckpointError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The note's text and the log's signature line. */
export function signCheckpoint(checkpoint: Checkpoint, key: SigningKey): string {
  return signNote(checkpointText(checkpoint), checkpoint.origin, key);
}

/**
 * Read a checkpoint of untrusted origin that must be signed by `key` under the name `origin`, and by nobody else.
 * @throws CheckpointError
 */
export function openCheckpoint(note: string, origin: string, key: PublicKey): Checkpoint {
  const text = openNote(note, origin, key);
  const lines = text.split("\n");
  const [name, size, root, end] = lines;
  if (lines.length !== 4 || end !== "" || name !== origin) throw malformed();
  if (!size || !/^(0|[1-9][0-9]{0,15})$/.test(size) || !Number.isSafeInteger(Number(size))) throw malformed();
  const rootBytes = decode(root ?? "");
  if (rootBytes.length !== 32) throw malformed();
  return { origin, size: Number(size), root: rootBytes };
}

/** C2SP signed-note: the text, a blank line, one line per signature. */
export function signNote(text: string, name: string, key: SigningKey): string {
  const signature = key.sign(new TextEncoder().encode(text));
  const blob = Buffer.concat([noteKeyHash(name, key.publicKey), signature]);
  return `${text}\n— ${name} ${toBase64(blob)}\n`;
}

/** The text of a note that carries exactly one signature, `name`'s under `key`. */
export function openNote(note: string, name: string, key: PublicKey): string {
  if (note.length > checkpointBytesMax) throw malformed();
  const split = note.lastIndexOf("\n\n");
  if (split < 0) throw malformed();
  const text = note.slice(0, split + 1);
  const match = /^— (\S+) (\S+)\n$/.exec(note.slice(split + 2));
  if (!match) throw malformed();
  const blob = decode(match[2] ?? "");
  const expected = noteKeyHash(name, key);
  const ours =
    match[1] === name && blob.length === 68 && expected.every((byte, index) => byte === blob[index]);
  if (!ours || !verifySignature(key, new TextEncoder().encode(text), blob.subarray(4))) {
    throw new CheckpointError("checkpoint.not-signed", "the checkpoint does not carry the log's signature");
  }
  return text;
}

/** SHA-256(name || LF || 0x01 || public key), first four bytes. */
function noteKeyHash(name: string, key: PublicKey): Uint8Array {
  return sha256Bytes(new TextEncoder().encode(`${name}\n`), Uint8Array.of(1), publicKeyBytes(key)).subarray(
    0,
    4,
  );
}

function checkpointText({ origin, size, root }: Checkpoint): string {
  return `${origin}\n${size}\n${toBase64(root)}\n`;
}

function decode(text: string): Uint8Array {
  try {
    return fromBase64(text);
  } catch (cause) {
    throw malformed(cause);
  }
}

function malformed(cause?: unknown): CheckpointError {
  return new CheckpointError("checkpoint.malformed", "not a C2SP checkpoint", { cause });
}
