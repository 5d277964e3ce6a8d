// The life of a site in the federation as a pure machine: invited, active, suspended, retired. A name and an
// invitation serve once; retirement is final.

import type { PublicKey, Sha256, SiteId } from "../base/brand.ts";
import type { Envelope } from "../crypto/envelope.ts";
import { ProtocolError } from "./errors.ts";
import { refusedDocumentsPerSiteMax } from "./limits.ts";
import type { FederationRecord, RecordOf } from "./records.ts";

export type Invitation = {
  readonly invitation: Sha256;
  readonly site: SiteId;
  readonly expiresAtMs: number;
  readonly used: boolean;
};
export type SiteStatus = "active" | "suspended" | "retired";
export type Site = {
  readonly site: SiteId;
  readonly publicKey: PublicKey;
  readonly status: SiteStatus;
  readonly invitation: Sha256;
  readonly enrolledAtMs: number;
  /** Documents refused without a study to book them on; recorded up to a bound. */
  readonly refusedDocuments: readonly Sha256[];
  /** The latest alarm that the site has raised as a witness. */
  readonly alarm: Sha256 | null;
};

export type EnrolmentState = {
  readonly invitations: ReadonlyMap<Sha256, Invitation>;
  readonly sites: ReadonlyMap<SiteId, Site>;
};

export const initialEnrolmentState: EnrolmentState = { invitations: new Map(), sites: new Map() };

export function evolveEnrolment(
  state: EnrolmentState,
  record: FederationRecord,
  atMs: number,
): EnrolmentState {
  switch (record.kind) {
    case "site.invited": {
      const { invitation, site, expiresAtMs } = record;
      const invitations = new Map(state.invitations).set(invitation, {
        invitation,
        site,
        expiresAtMs,
        used: false,
      });
      return { ...state, invitations };
    }
    case "site.enrolled": {
      const { site, publicKey, invitation } = record;
      const invitations = new Map(state.invitations);
      const used = invitations.get(invitation);
      if (used) invitations.set(invitation, { ...used, used: true });
      const status = "active";
      const enrolled: Site = {
        site,
        publicKey,
        status,
        invitation,
        enrolledAtMs: atMs,
        refusedDocuments: [],
        alarm: null,
      };
      return { invitations, sites: new Map(state.sites).set(site, enrolled) };
    }
    case "site.suspended":
      return withStatus(state, record.site, "suspended");
    case "site.resumed":
      return withStatus(state, record.site, "active");
    case "site.retired":
      return withStatus(state, record.site, "retired");
    case "document.refused": {
      const site = state.sites.get(record.site);
      if (!site) return state;
      const refusedDocuments = [...site.refusedDocuments, record.document];
      return { ...state, sites: new Map(state.sites).set(record.site, { ...site, refusedDocuments }) };
    }
    case "witness.alarmed": {
      const site = state.sites.get(record.site);
      if (!site) return state;
      return { ...state, sites: new Map(state.sites).set(record.site, { ...site, alarm: record.alarm }) };
    }
    case "log.opened":
      return state;
  }
}

export type InviteCommand = {
  readonly site: SiteId;
  readonly invitation: Sha256;
  readonly expiresAtMs: number;
};

/** @throws ProtocolError site.name-taken unless the name is new or all its earlier invitations have expired unused. */
export function invite(state: EnrolmentState, command: InviteCommand, nowMs: number): FederationRecord[] {
  const pending = [...state.invitations.values()].some(
    (one) => one.site === command.site && !one.used && one.expiresAtMs > nowMs,
  );
  if (pending || state.sites.has(command.site)) throw new ProtocolError("site.name-taken");
  return [{ kind: "site.invited", ...command }];
}

export type EnrolCommand = {
  readonly site: SiteId;
  readonly invitation: Sha256;
  readonly publicKey: PublicKey;
  readonly envelope: Envelope;
};

/**
 * A repeated request with the same key is answered, not recorded again.
 * @throws ProtocolError invitation.refused, site.name-taken
 */
export function enrol(state: EnrolmentState, command: EnrolCommand, nowMs: number): FederationRecord[] {
  const invitation = state.invitations.get(command.invitation);
  if (!invitation || invitation.site !== command.site) throw new ProtocolError("invitation.refused");
  const enrolled = state.sites.get(command.site);
  if (invitation.used) {
    if (enrolled?.publicKey === command.publicKey) return [];
    throw new ProtocolError("invitation.refused");
  }
  if (invitation.expiresAtMs <= nowMs) throw new ProtocolError("invitation.refused");
  if (enrolled) throw new ProtocolError("site.name-taken");
  const keyTaken = [...state.sites.values()].some((site) => site.publicKey === command.publicKey);
  if (keyTaken) throw new ProtocolError("invitation.refused");
  return [{ kind: "site.enrolled", ...command }];
}

export type StatusCommand = { readonly site: SiteId; readonly to: SiteStatus; readonly reason: string };

/** @throws ProtocolError site.unknown, site.wrong-state */
export function changeStatus(state: EnrolmentState, { site, to, reason }: StatusCommand): FederationRecord[] {
  const current = state.sites.get(site);
  if (!current) throw new ProtocolError("site.unknown");
  if (current.status === "retired" || current.status === to) throw new ProtocolError("site.wrong-state");
  if (to === "suspended") return [{ kind: "site.suspended", site, reason }];
  if (to === "retired") return [{ kind: "site.retired", site, reason }];
  return [{ kind: "site.resumed", site, reason }];
}

/** The record of a refused document that names no study; none for a repetition, or beyond the bound. */
export function refuseDocument(
  state: EnrolmentState,
  refusal: Omit<RecordOf<"document.refused">, "kind">,
): FederationRecord[] {
  const refused = state.sites.get(refusal.site)?.refusedDocuments;
  const recorded =
    refused?.includes(refusal.document) || (refused?.length ?? 0) >= refusedDocumentsPerSiteMax;
  return refused && !recorded ? [{ kind: "document.refused", ...refusal }] : [];
}

function withStatus(state: EnrolmentState, name: SiteId, status: SiteStatus): EnrolmentState {
  const site = state.sites.get(name);
  return site ? { ...state, sites: new Map(state.sites).set(name, { ...site, status }) } : state;
}
