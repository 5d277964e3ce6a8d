// Who this site is and whom it trusts: site.json in the home folder. It holds no secret; the key has a file of its own.

import { readFile } from "node:fs/promises";
import { Key, Origin, SiteName, TimeMs } from "@consilium/shared/protocol/names.ts";
import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { replaceFile } from "../store/durable-file.ts";
import type { SiteIdentity } from "../transport/session.ts";
import type { Home } from "./home.ts";
import { IdentityError } from "./identity-error.ts";
import { readKeyFile } from "./key-file.ts";

export const SiteFile = Type.Object(
  {
    site: SiteName,
    origin: Origin,
    url: Type.String({ pattern: "^https?://[^\\s]{1,200}$" }),
    /** Pinned at enrolment: nothing signed with another key is believed. */
    coordinatorKey: Key,
    publicKey: Key,
    /** Whether this site may speak to its coordinator without encryption. */
    insecureHttp: Type.Boolean(),
    enrolledAtMs: TimeMs,
  },
  { additionalProperties: false },
);
export type SiteFile = Static<typeof SiteFile>;

export type Enrolled = {
  readonly file: SiteFile;
  readonly identity: SiteIdentity;
  readonly ca: string | null;
};

/** @throws IdentityError */
export async function readEnrolled(home: Home): Promise<Enrolled> {
  const file = await readSiteFile(home);
  if (!file) throw new IdentityError("identity.missing");
  const key = await readKeyFile(home.keyFile);
  if (key.publicKey !== file.publicKey) throw new IdentityError("identity.damaged");
  const ca = await readFile(home.caFile, "utf8").catch(() => null);
  return { file, identity: { site: file.site, origin: file.origin, key }, ca };
}

/** Null where there is none. @throws IdentityError `identity.damaged` */
export async function readSiteFile(home: Home): Promise<SiteFile | null> {
  const text = await readFile(home.siteFile, "utf8").catch(() => null);
  if (text === null) return null;
  try {
    const value: unknown = JSON.parse(text);
    if (Value.Check(SiteFile, value)) return value;
  } catch (cause) {
    throw new IdentityError("identity.damaged", { cause });
  }
  throw new IdentityError("identity.damaged");
}

export async function writeSiteFile(home: Home, file: SiteFile): Promise<void> {
  await replaceFile(home.siteFile, new TextEncoder().encode(`${JSON.stringify(file, null, 2)}\n`));
}
