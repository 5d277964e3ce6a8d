// Which labels count as contoured in a case. A label that nobody drew is not a label that is absent: it is left out of
// that case's loss and score. Whether absence from one case already means "not drawn" is the study's decision.

/** per-site: not drawn where no case of the site has the label. per-case: not drawn where this case lacks it. */
export type PartialLabelPolicy = "per-site" | "per-case";

export interface ContourEvidence {
  readonly studyLabels: readonly number[];
  /** Labels that occur in this case. */
  readonly inCase: ReadonlySet<number>;
  /** Labels that occur in any case of the site. */
  readonly atSite: ReadonlySet<number>;
}

/** The study's labels, in the study's order, that count as contoured in this case. */
export function contouredLabels(
  { studyLabels, inCase, atSite }: ContourEvidence,
  policy: PartialLabelPolicy,
): number[] {
  const drawn = policy === "per-site" ? atSite : inCase;
  return studyLabels.filter((label) => drawn.has(label));
}
