// Why a pretraining cannot go on, in words that say what to do.

export type PretrainingErrorCode = "pretraining.state-unreadable" | "pretraining.state-of-another-plan";

const MESSAGES: Record<PretrainingErrorCode, string> = {
  "pretraining.state-unreadable":
    "This is no saved state of a pretraining of this model; start without --resume.",
  "pretraining.state-of-another-plan":
    "This state was saved under other minutes, another seed or another version; give the same ones or start anew.",
};

export class PretrainingError extends Error {
  override name = "PretrainingError";
  readonly code: PretrainingErrorCode;

  constructor(code: PretrainingErrorCode, options?: ErrorOptions) {
    super(MESSAGES[code], options);
    this.code = code;
  }
}
