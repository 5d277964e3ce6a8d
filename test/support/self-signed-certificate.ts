// A certificate for 127.0.0.1 and localhost that a test makes for itself: the few DER structures of RFC 5280 that TLS
// needs, written out. Good for tests only; it is its own authority and valid until 2049.

import { createPrivateKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";

export type TestCertificate = { readonly key: string; readonly cert: string };

export function selfSignedCertificate(): TestCertificate {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const spki = publicKey.export({ format: "der", type: "spki" });
  const body = certificateBody(spki);
  const signature = sign("sha256", body, privateKey);
  const certificate = sequence(body, ecdsaWithSha256, bitString(signature));
  const lines = certificate.toString("base64").match(/.{1,64}/g) ?? [];
  return {
    key: pem(privateKey),
    cert: `-----BEGIN CERTIFICATE-----\n${lines.join("\n")}\n-----END CERTIFICATE-----\n`,
  };
}

const pem = (key: KeyObject): string =>
  createPrivateKey(key.export({ format: "pem", type: "pkcs8" }))
    .export({ format: "pem", type: "pkcs8" })
    .toString();

function certificateBody(spki: Buffer): Buffer {
  const name = sequence(set(sequence(objectId("2.5.4.3"), der(0x0c, Buffer.from("consilium test")))));
  const validity = sequence(utcTime("200101000000Z"), utcTime("491231235959Z"));
  return sequence(
    der(0xa0, integer(2)), // Version 3.
    integer(1),
    ecdsaWithSha256,
    name,
    validity,
    name,
    spki,
    der(0xa3, sequence(basicConstraints(), subjectAltName())),
  );
}

function basicConstraints(): Buffer {
  const isAuthority = sequence(der(0x01, Buffer.of(0xff)));
  return sequence(objectId("2.5.29.19"), der(0x01, Buffer.of(0xff)), der(0x04, isAuthority));
}

function subjectAltName(): Buffer {
  const names = sequence(der(0x82, Buffer.from("localhost")), der(0x87, Buffer.of(127, 0, 0, 1)));
  return sequence(objectId("2.5.29.17"), der(0x04, names));
}

/** X.690: tag, length, content. */
function der(tag: number, content: Buffer): Buffer {
  const { length } = content;
  if (length < 0x80) return Buffer.concat([Buffer.of(tag, length), content]);
  const size = length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.of(tag, ...size), content]);
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return der(0x30, Buffer.concat(parts));
}

function set(...parts: readonly Buffer[]): Buffer {
  return der(0x31, Buffer.concat(parts));
}

function integer(value: number): Buffer {
  return der(0x02, Buffer.of(value));
}

function bitString(bits: Buffer): Buffer {
  return der(0x03, Buffer.concat([Buffer.of(0), bits]));
}

function utcTime(text: string): Buffer {
  return der(0x17, Buffer.from(text));
}

function objectId(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split(".").map(Number);
  return der(0x06, Buffer.from([first * 40 + second, ...rest.flatMap(base128)]));
}

function base128(value: number): number[] {
  const digits = [value & 0x7f];
  for (let rest = value >> 7; rest > 0; rest >>= 7) digits.unshift((rest & 0x7f) | 0x80);
  return digits;
}

const ecdsaWithSha256 = sequence(objectId("1.2.840.10045.4.3.2"));
