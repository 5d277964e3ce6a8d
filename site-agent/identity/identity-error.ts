// Why a home folder cannot be used as a site's identity, or an invitation as a way to one.

const REMEDIES = {
  "identity.missing":
    "This home folder is not enrolled; run `consilium-site enrol INVITATION` or name another --home.",
  "identity.exists": "This home folder is enrolled already; use another --home for another federation.",
  "identity.damaged":
    "The home folder's site.json or key is damaged; restore them from a backup or enrol anew.",
  "identity.key-exposed":
    "The key file can be read by other users; run `chmod 600` on key.pem in the home folder.",
  "invitation.malformed":
    "That is not an invitation; paste the whole text that begins with consilium-invitation-v1.",
  "invitation.mismatch":
    "The coordinator enrolled another site than the invitation names; speak to the operator.",
} as const;

export type IdentityErrorCode = keyof typeof REMEDIES;

export class IdentityError extends Error {
  override name = "IdentityError";
  readonly code: IdentityErrorCode;

  constructor(code: IdentityErrorCode, options?: ErrorOptions) {
    super(REMEDIES[code], options);
    this.code = code;
  }
}
