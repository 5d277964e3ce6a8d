// DSSE envelopes (secure-systems-lab dsse, protocol v1.0.2) with one Ed25519 signature over canonical JSON. Opening
// one yields what was signed, by whom, under which type, or a coded refusal; there is no way to read the payload
// without checking the signature.

import { type Static, type TSchema, Type } from "typebox";
import { Value } from "typebox/value";
import { type PublicKey, publicKeyPattern, type Sha256 } from "../base/brand.ts";
import { fromBase64, toBase64 } from "../encoding/base64url.ts";
import { decodeCanonicalJson, encodeCanonicalJson, type Json } from "../encoding/canonical-json.ts";
import { documentDigest } from "./digest.ts";
import { type SigningKey, verifySignature } from "./keys.ts";

/** Largest payload of a signed document; weights never travel in one. */
export const envelopePayloadBytesMax = 256 * 1024;

export const Envelope = Type.Object(
  {
    payload: Type.String({ maxLength: Math.ceil(envelopePayloadBytesMax / 3) * 4 }),
    payloadType: Type.String({ maxLength: 128 }),
    signatures: Type.Array(
      Type.Object(
        {
          keyid: Type.String({ pattern: publicKeyPattern }),
          sig: Type.String({ minLength: 88, maxLength: 88 }),
        },
        { additionalProperties: false },
      ),
      { minItems: 1, maxItems: 1 },
    ),
  },
  { additionalProperties: false },
);
export type Envelope = Static<typeof Envelope>;

export type EnvelopeErrorCode =
  | "envelope.malformed"
  | "envelope.wrong-type"
  | "envelope.wrong-signer"
  | "envelope.bad-signature"
  | "envelope.bad-payload";

export class EnvelopeError extends Error {
  override name = "EnvelopeError";
  readonly code: EnvelopeErrorCode;
  constructor(code: EnvelopeErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** A kind of signed document: its media type and the schema of its payload. */
export type DocumentType<T extends TSchema> = { readonly payloadType: string; readonly schema: T };

export function documentType<T extends TSchema>(name: string, schema: T): DocumentType<T> {
  return { payloadType: `application/vnd.consilium.${name}.v1+json`, schema };
}

/** Sign a document. The payload is its canonical JSON. */
export function seal<T extends TSchema>(
  type: DocumentType<T>,
  document: Static<T>,
  key: SigningKey,
): Envelope {
  const payload = encodeCanonicalJson(document as Json); // Every document schema describes JSON.
  const signature = key.sign(preAuthenticationEncoding(type.payloadType, payload));
  return {
    payload: toBase64(payload),
    payloadType: type.payloadType,
    signatures: [{ keyid: key.publicKey, sig: toBase64(signature) }],
  };
}

/**
 * Check an envelope of untrusted origin and return its document.
 * @throws EnvelopeError naming the first check that failed.
 */
export function openEnvelope<T extends TSchema>(
  type: DocumentType<T>,
  envelope: unknown,
  signer: PublicKey,
): Static<T> {
  if (!Value.Check(Envelope, envelope))
    throw new EnvelopeError("envelope.malformed", "not a DSSE envelope with one signature");
  if (envelope.payloadType !== type.payloadType) {
    throw new EnvelopeError("envelope.wrong-type", `expected a document of type ${type.payloadType}`);
  }
  const [signature] = envelope.signatures;
  if (signature?.keyid !== signer)
    throw new EnvelopeError("envelope.wrong-signer", "signed with another key than the one on record");
  const payload = decodeField(envelope.payload);
  const message = preAuthenticationEncoding(type.payloadType, payload);
  if (!verifySignature(signer, message, decodeField(signature.sig))) {
    throw new EnvelopeError("envelope.bad-signature", "the signature does not match the document");
  }
  return parsePayload(type, payload);
}

/** The signer an envelope names; nothing is checked. For looking up which key should have signed. */
export function claimedSigner(envelope: Envelope): PublicKey {
  return envelope.signatures[0]?.keyid as PublicKey; // The schema demands exactly one signature with this pattern.
}

/** Digest of the whole envelope, signature included. */
export function envelopeDigest(envelope: Envelope): Sha256 {
  return documentDigest("envelope", envelope);
}

/** DSSE's PAE: the bytes that are signed. */
export function preAuthenticationEncoding(payloadType: string, payload: Uint8Array): Uint8Array {
  const typeBytes = new TextEncoder().encode(payloadType);
  const head = new TextEncoder().encode(`DSSEv1 ${typeBytes.length} ${payloadType} ${payload.length} `);
  const message = new Uint8Array(head.length + payload.length);
  message.set(head);
  message.set(payload, head.length);
  return message;
}

function parsePayload<T extends TSchema>(type: DocumentType<T>, payload: Uint8Array): Static<T> {
  let document: Json;
  try {
    document = decodeCanonicalJson(payload);
  } catch (cause) {
    throw new EnvelopeError("envelope.bad-payload", "the signed payload is not canonical JSON", { cause });
  }
  if (!Value.Check(type.schema, document)) {
    const [first] = Value.Errors(type.schema, document);
    throw new EnvelopeError(
      "envelope.bad-payload",
      `the signed payload is not a ${type.payloadType}: ${first?.instancePath || "/"} ${first?.message ?? ""}`,
    );
  }
  return document;
}

function decodeField(text: string): Uint8Array {
  try {
    return fromBase64(text);
  } catch (cause) {
    throw new EnvelopeError("envelope.malformed", "a field is not canonical base64", { cause });
  }
}
