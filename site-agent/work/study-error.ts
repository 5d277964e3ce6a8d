// Why a site does not act on a study's documents or weights, although they arrived. Each is a reason to speak to the
// operator rather than to try again.

const REMEDIES = {
  "plan.not-signed": "The study's plan is not signed by the coordinator that this site enrolled with.",
  "plan.other": "The plan is not the one that this site approved, or names another study or other sites.",
  "plan.unsuitable":
    "This agent does not know the plan's recipe in that version; install the agent that the study needs.",
  "plan.no-file": "The plan cannot be read; give a signed plan or a plan as JSON.",
  "version.not-signed": "The model version is not signed by the coordinator that this site enrolled with.",
  "version.other":
    "The model version's manifest does not belong to this study and plan, or has another digest.",
  "weights.other": "The weights are not those of the model version's manifest.",
  "approval.missing":
    "This study was not approved here, or its approval file is gone; run `consilium-site approve`.",
  "approval.damaged": "An approval file was changed or is not this site's; approve the study again.",
  "approval.declined": "The plan was not approved; nothing was signed or sent.",
  "cohort.empty": "No labelled training case can be read; look at `consilium-site check --data DIR`.",
  "cohort.too-large":
    "The prepared slices do not fit into the memory set aside for them; raise CONSILIUM_PREPARED_MIB.",
  "cohort.split-malformed":
    'The split file is not valid; it needs "cases", or "training" and "validation", as lists of case names.',
} as const;

export type StudyErrorCode = keyof typeof REMEDIES;

export class StudyError extends Error {
  override name = "StudyError";
  readonly code: StudyErrorCode;

  constructor(code: StudyErrorCode, options?: ErrorOptions) {
    super(REMEDIES[code], options);
    this.code = code;
  }
}
