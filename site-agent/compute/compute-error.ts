// A task that failed in the process that computes. The codes of what failed there are kept; its text stays there.

export class ComputeError extends Error {
  override name = "ComputeError";
  readonly code: string;

  constructor(code: string) {
    super(SENTENCES[code] ?? "A task failed in the process that computes.");
    this.code = code;
  }
}

const SENTENCES: Readonly<Record<string, string>> = {
  "compute.ended":
    "The process that computes ended in the middle of a task: look whether the system ended it for its memory.",
  "compute.answer-malformed": "The process that computes gave an answer that was not understood.",
};
