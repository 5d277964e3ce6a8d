// The catalogue of everything the protocol can refuse: code, HTTP status, whether trying again can help, and one
// public sentence that says what to do. Codes are for machines and never change meaning; nothing of a request is
// ever echoed in a sentence.

export type CatalogueEntry = {
  readonly status: number;
  readonly retryable: boolean;
  readonly sentence: string;
};

export const errorCatalogue = {
  "request.malformed": {
    status: 400,
    retryable: false,
    sentence: "The request does not have the documented form; see docs/PROTOCOL.md.",
  },
  "request.too-large": {
    status: 413,
    retryable: false,
    sentence: "The body is larger than this route takes.",
  },
  "request.rate-limited": {
    status: 429,
    retryable: true,
    sentence: "Too many requests; wait and try again.",
  },
  "route.unknown": {
    status: 404,
    retryable: false,
    sentence: "There is no such route; see docs/PROTOCOL.md.",
  },
  internal: {
    status: 500,
    retryable: true,
    sentence: "The coordinator failed; its log holds the details under this response's correlation id.",
  },
  "not-ready": { status: 503, retryable: true, sentence: "The coordinator is not ready; see /readyz." },
  "protocol.unsupported": {
    status: 400,
    retryable: false,
    sentence: "This protocol version is not spoken here; update the older side.",
  },
  "auth.missing": { status: 401, retryable: false, sentence: "Send `Authorization: Bearer <token>`." },
  "auth.refused": {
    status: 401,
    retryable: false,
    sentence: "The token is unknown or has expired; get a new one.",
  },
  "auth.forbidden": { status: 403, retryable: false, sentence: "This identity may not do that." },
  "challenge.refused": {
    status: 401,
    retryable: true,
    sentence: "The challenge is unknown, used or older than a minute; ask for a new one.",
  },
  "invitation.refused": {
    status: 403,
    retryable: false,
    sentence: "The invitation is unknown, used or expired; ask the operator for a new one.",
  },
  "site.unknown": { status: 404, retryable: false, sentence: "No site of that name is enrolled." },
  "site.name-taken": {
    status: 409,
    retryable: false,
    sentence: "A site of that name was invited or enrolled before; site names are never used twice.",
  },
  "site.not-active": {
    status: 403,
    retryable: false,
    sentence: "The site is suspended or retired; speak to the operator.",
  },
  "site.wrong-state": {
    status: 409,
    retryable: false,
    sentence: "The site is not in a state that allows this; see `consilium site list`.",
  },
  "study.unknown": {
    status: 404,
    retryable: false,
    sentence: "There is no such study, or this site is not part of it.",
  },
  "study.name-taken": {
    status: 409,
    retryable: false,
    sentence: "A study of that name exists; study names are never used twice.",
  },
  "study.finished": { status: 409, retryable: false, sentence: "The study has finished." },
  "plan.invalid": {
    status: 422,
    retryable: false,
    sentence: "The plan cannot be opened; every fault is listed.",
  },
  "provenance.refused": {
    status: 422,
    retryable: false,
    sentence: "What is said about the parts of the start model does not hold; every fault is listed.",
  },
  "plan.not-approved": { status: 403, retryable: false, sentence: "The site has not approved this plan." },
  "plan.stale": {
    status: 409,
    retryable: false,
    sentence: "The document speaks of another plan than the study's.",
  },
  "plan.already-approved": {
    status: 409,
    retryable: false,
    sentence: "The site has already approved this plan with other figures.",
  },
  "envelope.refused": {
    status: 422,
    retryable: false,
    sentence:
      "The signed document is malformed, of another kind, or not signed with the site's key on record.",
  },
  "document.foreign": {
    status: 422,
    retryable: false,
    sentence: "The signed document names another site or another federation than its sender's.",
  },
  "round.closed": {
    status: 409,
    retryable: false,
    sentence: "That round is not open; wait for the next offer.",
  },
  "round.not-invited": { status: 403, retryable: false, sentence: "The site was not invited to this round." },
  "round.none-open": { status: 409, retryable: false, sentence: "No round is open in this study." },
  "version.stale": {
    status: 409,
    retryable: false,
    sentence: "The update was trained from another version than the round's.",
  },
  "version.unknown": { status: 404, retryable: false, sentence: "There is no such model version." },
  "version.wrong-state": {
    status: 409,
    retryable: false,
    sentence: "The version is not in a state that allows this; see `consilium model list`.",
  },
  "update.duplicate": {
    status: 409,
    retryable: false,
    sentence: "Another update of this site was already accepted in this round.",
  },
  "update.blob-missing": {
    status: 409,
    retryable: true,
    sentence: "The update's tensors are not here; upload them, then submit again.",
  },
  "update.malformed": {
    status: 422,
    retryable: false,
    sentence: "The update's tensors are not a well-formed safetensors file.",
  },
  "update.manifest-mismatch": {
    status: 422,
    retryable: false,
    sentence: "The update's tensors are not exactly those of the study's parameter manifest.",
  },
  "update.not-finite": {
    status: 422,
    retryable: false,
    sentence: "The update holds NaN or infinite values.",
  },
  "update.norm-exceeded": {
    status: 422,
    retryable: false,
    sentence: "The update's L2 norm is above the plan's clipping norm.",
  },
  "update.examples-exceeded": {
    status: 422,
    retryable: false,
    sentence: "The update claims more training examples than the site's approval states.",
  },
  "update.refusals-exhausted": {
    status: 429,
    retryable: false,
    sentence: "Too many refused updates in this round; nothing more is taken from this site until the next.",
  },
  "evaluation.closed": { status: 409, retryable: false, sentence: "That version is not being evaluated." },
  "evaluation.duplicate": {
    status: 409,
    retryable: false,
    sentence: "Another report of this site on this version was already recorded.",
  },
  "blob.unknown": {
    status: 404,
    retryable: false,
    sentence: "There is no such blob, or this identity may not read it.",
  },
  "upload.too-large": {
    status: 413,
    retryable: false,
    sentence: "The upload is larger than any open study allows.",
  },
  "upload.offset-mismatch": {
    status: 409,
    retryable: true,
    sentence: "The upload goes on at another offset; ask with HEAD.",
  },
  "upload.digest-mismatch": {
    status: 422,
    retryable: true,
    sentence: "The uploaded bytes have another SHA-256 than their address; the upload was discarded.",
  },
  "upload.too-many": {
    status: 429,
    retryable: true,
    sentence: "Too many unfinished uploads; finish one first.",
  },
  "proof.out-of-range": { status: 400, retryable: false, sentence: "The log has no such index or size." },
  "evidence.unavailable": {
    status: 409,
    retryable: false,
    sentence: "Evidence exists for versions that an aggregation made.",
  },
} as const satisfies Record<string, CatalogueEntry>;

export type ProtocolErrorCode = keyof typeof errorCatalogue;

/** An expected refusal. `details` lists faults (field and what is wrong with it), never content of the request. */
export class ProtocolError extends Error {
  override name = "ProtocolError";
  readonly code: ProtocolErrorCode;
  readonly details: readonly string[];
  constructor(code: ProtocolErrorCode, details: readonly string[] = [], options?: ErrorOptions) {
    super([errorCatalogue[code].sentence, ...details].join(" "), options);
    this.code = code;
    this.details = details;
  }
}

export function isProtocolErrorCode(code: string): code is ProtocolErrorCode {
  return Object.hasOwn(errorCatalogue, code);
}
