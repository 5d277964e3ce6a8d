// Why a plan's step cannot be foretold. Messages hold numbers and say what to change.

const REMEDIES = {
  "estimate.unknown-kernel":
    "The cost of a step of this plan is not known here; its model calls a kernel without a rule",
  "estimate.unavailable": "What a step of this plan takes could not be found out",
} as const;

export type EstimateErrorCode = keyof typeof REMEDIES;

export class EstimateError extends Error {
  override name = "EstimateError";
  readonly code: EstimateErrorCode;

  /** @param detail numbers and names of kernels */
  constructor(code: EstimateErrorCode, detail: string) {
    super(`${REMEDIES[code]}: ${detail}.`);
    this.code = code;
  }
}
