// What is wrong with a command line beyond its form.

const REMEDIES = {
  "usage.ca-unreadable": "The file named with --ca cannot be read.",
  "usage.split": "--split takes last-fifth or a file.",
  "usage.output": "The output file cannot be written; check the folder and its permissions.",
  "usage.output-name": "The output is a NIfTI file: give a name that ends in .nii.gz or .nii.",
  "usage.stages": "The model's answer has no stages; leave --stages out.",
  "usage.start": "The start weights cannot be read; give a weights file, a model file, or seed:N.",
  "usage.seed": "A seed is a whole number from 0 to 4294967295.",
  "usage.confirmation":
    "There is no terminal to confirm at; read the plan and repeat the command with --yes.",
  "usage.plan-and-study": "--plan takes the place of --study: give one of them.",
  "usage.alarm-none": "There is no alarm to clear.",
} as const;

export type UsageErrorCode = keyof typeof REMEDIES;

export class UsageError extends Error {
  override name = "UsageError";
  readonly code: UsageErrorCode;

  constructor(code: UsageErrorCode, options?: ErrorOptions) {
    super(REMEDIES[code], options);
    this.code = code;
  }
}
