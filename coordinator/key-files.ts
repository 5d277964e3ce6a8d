// The two secrets in the data folder: the key that signs for the federation, and the operator's token. Both are made
// once, with mode 0600, and a file that others can read is refused.

import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { generateSigningKey, type SigningKey, signingKeyFromPem } from "@consilium/shared/crypto/keys.ts";

export class KeyFileError extends Error {
  override name = "KeyFileError";
  readonly code = "key-file.unsafe";
}

export function readOrMakeSigningKey(file: string): SigningKey {
  return signingKeyFromPem(readOrMake(file, () => generateSigningKey().exportPem()));
}

/** 32 random bytes in base64url. */
export function readOrMakeToken(file: string): string {
  return readOrMake(file, () => randomBytes(32).toString("base64url")).trim();
}

/** @throws KeyFileError when others may read the file */
export function readSecretFile(file: string): string {
  const mode = statSync(file).mode & 0o777;
  if (process.platform !== "win32" && (mode & 0o077) !== 0) {
    throw new KeyFileError(
      `${file} has mode ${mode.toString(8)}: run chmod 600 on it, and replace the secret if others had access`,
    );
  }
  return readFileSync(file, "utf8");
}

function readOrMake(file: string, make: () => string): string {
  if (!existsSync(file)) writeFileSync(file, `${make().trimEnd()}\n`, { mode: 0o600, flag: "wx" });
  return readSecretFile(file);
}
