// The site's signing key on disk: PKCS #8 in PEM, readable by its owner alone. A key that others can read is refused
// before it is used.

import { readFile, stat } from "node:fs/promises";
import {
  generateSigningKey,
  KeyError,
  type SigningKey,
  signingKeyFromPem,
} from "@consilium/shared/crypto/keys.ts";
import { replaceFile } from "../store/durable-file.ts";
import { IdentityError } from "./identity-error.ts";

const groupAndOthers = 0o077;
const keyFileBytesMax = 4096;

/** @throws IdentityError */
export async function readKeyFile(path: string): Promise<SigningKey> {
  const status = await stat(path).catch((cause: unknown) => {
    throw new IdentityError("identity.missing", { cause });
  });
  // Windows has no such modes; Node reports them as open to all.
  if (process.platform !== "win32" && (status.mode & groupAndOthers) !== 0) {
    throw new IdentityError("identity.key-exposed");
  }
  if (status.size > keyFileBytesMax) throw new IdentityError("identity.damaged");
  try {
    return signingKeyFromPem(await readFile(path, "utf8"));
  } catch (cause) {
    if (cause instanceof KeyError) throw new IdentityError("identity.damaged", { cause });
    throw cause;
  }
}

/** The key that an interrupted enrolment left, or a new one. */
export async function readOrMakeKeyFile(path: string): Promise<SigningKey> {
  try {
    return await readKeyFile(path);
  } catch (error) {
    if (!(error instanceof IdentityError && error.code === "identity.missing")) throw error;
  }
  const key = generateSigningKey();
  await replaceFile(path, new TextEncoder().encode(key.exportPem()));
  return key;
}
