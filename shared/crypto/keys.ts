// Ed25519 keys (RFC 8032). A public key is its own identifier; a private key stays inside this module's type and is
// only ever written to disk as PKCS #8 by the process that owns it.

import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  sign as signBytes,
  verify as verifyBytes,
} from "node:crypto";
import { type PublicKey, publicKey } from "../base/brand.ts";
import { fromBase64Url, toBase64Url } from "../encoding/base64url.ts";

export type SigningKey = {
  readonly publicKey: PublicKey;
  sign(message: Uint8Array): Uint8Array;
  /** PKCS #8 PEM: for the owner's key file of mode 0600, nowhere else. */
  exportPem(): string;
};

export class KeyError extends Error {
  override name = "KeyError";
  readonly code = "key.malformed";
}

export function generateSigningKey(): SigningKey {
  return signingKey(generateKeyPairSync("ed25519").privateKey);
}

/** @throws KeyError when the text is not an Ed25519 private key in PEM. */
export function signingKeyFromPem(pem: string): SigningKey {
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType !== "ed25519") throw new TypeError(`a key of type ${key.asymmetricKeyType}`);
    return signingKey(key);
  } catch (cause) {
    throw new KeyError("not an Ed25519 private key in PEM form: restore the key file from its backup", {
      cause,
    });
  }
}

/** A key made from its 32-byte seed (RFC 8032 section 5.1.5), for published vectors and deterministic tests. */
export function signingKeyFromSeed(seed: Uint8Array): SigningKey {
  const prefix = Buffer.from("302e020100300506032b657004220420", "hex"); // PKCS #8 header of an Ed25519 seed.
  return signingKey(createPrivateKey({ key: Buffer.concat([prefix, seed]), format: "der", type: "pkcs8" }));
}

/** True when `signature` (64 bytes) is `key`'s signature of `message`. */
export function verifySignature(key: PublicKey, message: Uint8Array, signature: Uint8Array): boolean {
  if (signature.length !== 64) return false;
  return verifyBytes(null, message, keyObject(key), signature);
}

/** The raw 32 bytes of a public key. */
export function publicKeyBytes(key: PublicKey): Uint8Array {
  return fromBase64Url(key.slice("ed25519:".length));
}

/** @throws NameError unless exactly 32 bytes are given. */
export function publicKeyFromBytes(bytes: Uint8Array): PublicKey {
  return publicKey(`ed25519:${toBase64Url(bytes)}`);
}

function signingKey(key: KeyObject): SigningKey {
  const jwk = createPublicKey(key).export({ format: "jwk" });
  return {
    publicKey: publicKey(`ed25519:${jwk.x}`),
    sign: (message) => new Uint8Array(signBytes(null, message, key)),
    exportPem: () => key.export({ format: "pem", type: "pkcs8" }).toString(),
  };
}

function keyObject(key: PublicKey): KeyObject {
  return createPublicKey({
    format: "jwk",
    key: { kty: "OKP", crv: "Ed25519", x: key.slice("ed25519:".length) },
  });
}
