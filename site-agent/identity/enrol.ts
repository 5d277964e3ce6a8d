// Enrolment: the site makes its key, shows the coordinator that it holds it, and pins what the invitation names. It
// stops at the first sign that the coordinator is not the one that invited; run again, it goes on where it stopped.

import { mkdir } from "node:fs/promises";
import type { Clock } from "@consilium/shared/base/clock.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import { seal } from "@consilium/shared/crypto/envelope.ts";
import { EnrolmentDocument } from "@consilium/shared/protocol/documents.ts";
import { replaceFile } from "../store/durable-file.ts";
import { readFederation, requestEnrolment } from "../transport/coordinator-client.ts";
import { openLedger } from "../transport/ledger.ts";
import { TransportError } from "../transport/transport-error.ts";
import { Wire } from "../transport/wire.ts";
import type { Home } from "./home.ts";
import { IdentityError } from "./identity-error.ts";
import type { Invitation } from "./invitation.ts";
import { readOrMakeKeyFile } from "./key-file.ts";
import { readSiteFile, type SiteFile, writeSiteFile } from "./site-file.ts";

export type EnrolmentOptions = {
  readonly home: Home;
  readonly insecureHttp: boolean;
  /** Certificate authorities in PEM. */
  readonly ca: string | null;
  /** Name and version of this agent, for the operator. */
  readonly agent: string;
  readonly clock: Clock;
  readonly pid: number;
};

/** @throws IdentityError, TransportError, ProtocolError */
export async function enrol(invitation: Invitation, options: EnrolmentOptions): Promise<SiteFile> {
  const { home, insecureHttp, ca, clock, pid } = options;
  if (await readSiteFile(home)) throw new IdentityError("identity.exists");
  const wire = new Wire({ base: new URL(invitation.url), insecureHttp, ...(ca !== null && { ca }) });
  await mkdir(home.folder, { recursive: true, mode: 0o700 });
  if (ca !== null) await replaceFile(home.caFile, new TextEncoder().encode(ca));
  const ledger = await openLedger({ folder: home.ledger, clock, pid });
  try {
    return await introduce(invitation, { wire, book: ledger }, options);
  } finally {
    await wire.close();
    await ledger.close(wire);
  }
}

async function introduce(
  { url, origin, coordinatorKey, site, secret }: Invitation,
  port: Parameters<typeof requestEnrolment>[0],
  { home, agent, insecureHttp, clock }: EnrolmentOptions,
): Promise<SiteFile> {
  const federation = await readFederation(port);
  if (federation.origin !== origin || federation.coordinatorKey !== coordinatorKey) {
    throw new TransportError("transport.other-federation");
  }
  const key = await readOrMakeKeyFile(home.keyFile);
  const invitation = blobDigest(new TextEncoder().encode(secret));
  const request = { origin, site, invitation, publicKey: key.publicKey, agent };
  const envelope = seal(EnrolmentDocument, request, key);
  const answer = await requestEnrolment(port, { secret, envelope });
  if (answer.site !== site || answer.origin !== origin || answer.coordinatorKey !== coordinatorKey) {
    throw new IdentityError("invitation.mismatch");
  }
  const enrolledAtMs = clock.nowMs();
  const file = { site, origin, url, coordinatorKey, publicKey: key.publicKey, insecureHttp, enrolledAtMs };
  await writeSiteFile(home, file);
  return file;
}
