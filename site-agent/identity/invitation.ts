// The text with which an operator invites a hospital. It names the coordinator, its key and its log, which the site
// pins from here on.

import { fromBase64Url } from "@consilium/shared/encoding/base64url.ts";
import { decodeCanonicalJson } from "@consilium/shared/encoding/canonical-json.ts";
import { InvitationToken, invitationTokenPrefix } from "@consilium/shared/protocol/http.ts";
import type { Static } from "typebox";
import { Value } from "typebox/value";
import { IdentityError } from "./identity-error.ts";

const invitationLengthMax = 4096;

export type Invitation = Static<typeof InvitationToken>;

/** @throws IdentityError `invitation.malformed`; the text, which holds a secret, is never repeated. */
export function parseInvitation(text: string): Invitation {
  const trimmed = text.trim();
  if (!trimmed.startsWith(invitationTokenPrefix) || trimmed.length > invitationLengthMax) {
    throw new IdentityError("invitation.malformed");
  }
  try {
    const value = decodeCanonicalJson(fromBase64Url(trimmed.slice(invitationTokenPrefix.length)));
    if (Value.Check(InvitationToken, value)) return value;
  } catch {
    // Its own message might quote the secret.
  }
  throw new IdentityError("invitation.malformed");
}
