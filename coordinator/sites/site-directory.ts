// The operator's commands about sites, and enrolment itself: each is decided by the pure machine under the latest
// state and appended; the secret of an invitation is shown once and kept nowhere.

import { randomBytes } from "node:crypto";
import type { SiteId, StudyId } from "@consilium/shared/base/brand.ts";
import type { Clock } from "@consilium/shared/base/clock.ts";
import { blobDigest } from "@consilium/shared/crypto/digest.ts";
import {
  claimedSigner,
  type Envelope,
  EnvelopeError,
  openEnvelope,
} from "@consilium/shared/crypto/envelope.ts";
import { toBase64Url } from "@consilium/shared/encoding/base64url.ts";
import { encodeCanonicalJson } from "@consilium/shared/encoding/canonical-json.ts";
import { EnrolmentDocument } from "@consilium/shared/protocol/documents.ts";
import { changeStatus, enrol, invite, type SiteStatus } from "@consilium/shared/protocol/enrolment.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import { type InvitationToken, invitationTokenPrefix } from "@consilium/shared/protocol/http.ts";
import { invitationLifetimeMsMax } from "@consilium/shared/protocol/limits.ts";
import { isStudyRecord } from "@consilium/shared/protocol/records.ts";
import { withdrawContribution } from "@consilium/shared/protocol/release.ts";
import type { AuditLog } from "../audit/audit-log.ts";
import type { RoundRunner } from "../rounds/round-runner.ts";

export type SiteDirectoryPorts = {
  readonly log: AuditLog;
  readonly runner: RoundRunner;
  readonly clock: Clock;
  /** How sites reach the coordinator. */
  readonly publicUrl: () => string;
  /** Cut the connections of a site that may no longer act. */
  readonly disconnect: (site: SiteId) => void;
};

export class SiteDirectory {
  readonly #ports: SiteDirectoryPorts;

  constructor(ports: SiteDirectoryPorts) {
    this.#ports = ports;
  }

  /** @returns the text to hand to the hospital, over a channel that only the hospital reads */
  async invite(
    site: SiteId,
    validForMs: number,
  ): Promise<{ invitation: string; site: SiteId; expiresAtMs: number }> {
    const { log, clock, publicUrl } = this.#ports;
    const secret = randomBytes(32).toString("base64url");
    const expiresAtMs = clock.nowMs() + Math.min(validForMs, invitationLifetimeMsMax);
    const invitation = blobDigest(new TextEncoder().encode(secret));
    await log.append((state, nowMs) => invite(state.enrolment, { site, invitation, expiresAtMs }, nowMs));
    const coordinatorKey = log.state.opened?.coordinatorKey;
    if (!coordinatorKey) throw new ProtocolError("not-ready");
    const token: InvitationToken = {
      url: publicUrl(),
      origin: log.origin,
      coordinatorKey,
      site,
      secret,
      expiresAtMs,
    };
    return {
      invitation: `${invitationTokenPrefix}${toBase64Url(encodeCanonicalJson(token))}`,
      site,
      expiresAtMs,
    };
  }

  /** @throws ProtocolError invitation.refused, envelope.refused, site.name-taken */
  async enrol(secret: string, envelope: Envelope): Promise<SiteId> {
    const { log } = this.#ports;
    const invitation = blobDigest(new TextEncoder().encode(secret));
    const request = this.#openRequest(envelope);
    if (request.invitation !== invitation || request.origin !== log.origin)
      throw new ProtocolError("invitation.refused");
    const { site, publicKey } = request;
    await log.append((state, nowMs) =>
      enrol(state.enrolment, { site, invitation, publicKey, envelope }, nowMs),
    );
    return site;
  }

  async changeStatus(site: SiteId, to: SiteStatus, reason: string): Promise<void> {
    const { log, runner, disconnect } = this.#ports;
    await log.append((state) => changeStatus(state.enrolment, { site, to, reason }));
    if (to !== "active") disconnect(site);
    await runner.sitesChanged();
  }

  /** @returns the versions that the contribution reached, all of them marked as withdrawn now */
  async withdraw(study: StudyId, site: SiteId, reason: string): Promise<readonly string[]> {
    const { log, runner } = this.#ports;
    const entries = await log.append((state) => {
      const found = state.studies.get(study);
      if (!found) throw new ProtocolError("study.unknown");
      return withdrawContribution(found, site, reason);
    });
    await runner.sitesChanged();
    const [first] = entries.map(({ record }) => record).filter(isStudyRecord);
    return first?.kind === "contribution.withdrawn" ? first.versions : [];
  }

  /** The request is signed with the key that it presents: proof that the sender holds it. */
  #openRequest(envelope: Envelope) {
    try {
      const request = openEnvelope(EnrolmentDocument, envelope, claimedSigner(envelope));
      if (request.publicKey !== claimedSigner(envelope)) throw new ProtocolError("envelope.refused");
      return request;
    } catch (cause) {
      if (cause instanceof EnvelopeError)
        throw new ProtocolError("envelope.refused", [cause.message], { cause });
      throw cause;
    }
  }
}
