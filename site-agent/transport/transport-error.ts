// Why an exchange with the coordinator did not come about. What the coordinator itself refuses arrives as a
// ProtocolError with a code of the catalogue; this is everything that happens before it could answer.

const REMEDIES = {
  "transport.unreachable":
    "The coordinator cannot be reached; check the address, the network and its status.",
  "transport.certificate":
    "The coordinator's certificate is not trusted; give its authority with --ca, or ask the operator.",
  "transport.no-progress": "Nothing was sent or received for too long; the connection was given up.",
  "transport.answer-too-large": "The answer is larger than any that the protocol allows; it was not read.",
  "transport.answer-malformed":
    "The answer does not have the documented form; something else than a coordinator answers at this address.",
  "transport.aborted": "The exchange was given up because it is no longer needed.",
  "transport.insecure":
    "The address is not encrypted and not on this machine; use https, or name --insecure-http if that is meant.",
  "transport.other-federation":
    "The coordinator shows another key or another log than the invitation; do not go on, speak to the operator.",
} as const;

export type TransportErrorCode = keyof typeof REMEDIES;

export class TransportError extends Error {
  override name = "TransportError";
  readonly code: TransportErrorCode;

  constructor(code: TransportErrorCode, options?: ErrorOptions) {
    super(REMEDIES[code], options);
    this.code = code;
  }
}

/** Names that OpenSSL and Node give to certificates that cannot be trusted. */
const certificateFaults =
  /^(CERT_|ERR_TLS_CERT|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_(GET_ISSUER|VERIFY_LEAF)|HOSTNAME_MISMATCH)/;

/** A fault of a connection, by its system code; its text, which may name addresses, stays in `cause`. */
export function transportError(cause: unknown): TransportError {
  if (cause instanceof TransportError) return cause;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  return new TransportError(
    certificateFaults.test(code) ? "transport.certificate" : "transport.unreachable",
    { cause },
  );
}
