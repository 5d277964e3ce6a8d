// A comparison as people and programs read it: a row for every stage, the first stage that fails, and every name that was
// not compared.

import type { Compared, Comparison } from "./comparison.ts";

export type CaseReport = {
  readonly folder: string;
  readonly stages: readonly StageReport[];
  readonly firstFailure: string | null;
  readonly comparedCount: number;
  readonly failed: readonly { readonly name: string; readonly share: number }[];
  /** Accepted beyond their tolerance, and why. */
  readonly excused: readonly { readonly name: string; readonly share: number; readonly note: string }[];
  readonly unsupported: Readonly<Record<string, readonly string[]>>;
  readonly notUnderstood: readonly string[];
  /** Names in the case's tolerances. */
  readonly toleranceCount: number;
};

export type StageReport = {
  readonly stage: string;
  readonly compared: number;
  readonly failed: number;
  readonly worst: number;
  readonly worstName: string;
};

export type ExitCode = 0 | 1 | 3;

const SHOWN_MAX = 12;

export function reportCase(folder: string, comparison: Comparison, toleranceCount: number): CaseReport {
  const stages = stageReports(comparison.compared);
  const unsupported: Record<string, string[]> = {};
  for (const [name, reason] of comparison.unsupported)
    unsupported[reason] = [...(unsupported[reason] ?? []), name];
  return {
    folder,
    stages,
    firstFailure: stages.find(({ failed }) => failed > 0)?.stage ?? null,
    comparedCount: comparison.compared.length,
    failed: comparison.compared
      .filter(({ accepted }) => !accepted)
      .map(({ name, share }) => ({ name, share })),
    excused: comparison.compared.flatMap(({ name, share, note }) => (note ? [{ name, share, note }] : [])),
    unsupported,
    notUnderstood: comparison.notUnderstood(),
    toleranceCount,
  };
}

/** A case that could not be run at all. */
export function failedReport(folder: string, reason: string): CaseReport {
  const empty = {
    stages: [],
    firstFailure: "reading",
    comparedCount: 0,
    failed: [],
    excused: [],
    unsupported: {},
  };
  return { folder, ...empty, notUnderstood: [reason], toleranceCount: 0 };
}

/** 0 all compared and equal; 1 a mismatch or something not understood; 3 only groups that are not supported yet. */
export function exitCode(reports: readonly CaseReport[]): ExitCode {
  const wrong = reports.some(({ failed, notUnderstood, comparedCount, unsupported, toleranceCount }) => {
    const named = Object.values(unsupported).flat().length;
    return failed.length + notUnderstood.length > 0 || comparedCount + named !== toleranceCount;
  });
  if (wrong) return 1;
  return reports.some(({ unsupported }) => Object.keys(unsupported).length > 0) ? 3 : 0;
}

export function reportLines(report: CaseReport): string[] {
  const { folder, stages, comparedCount, toleranceCount, failed, excused, unsupported, notUnderstood } =
    report;
  const rows = stages.map(({ stage, compared, failed: wrong, worst, worstName }) =>
    [
      stage.padEnd(28),
      String(compared).padStart(6),
      String(wrong).padStart(7),
      worst.toFixed(3).padStart(10),
      ` ${worstName}`,
    ].join(""),
  );
  const left = Object.entries(unsupported).flatMap(([reason, names]) => [
    `not supported (${reason}): ${names.length}`,
    ...names.map((name) => `  ${name}`),
  ]);
  return [
    `${folder}: ${comparedCount} of ${toleranceCount} tensors compared, ${failed.length} failed`,
    `${"stage".padEnd(28)}${"tensors".padStart(6)}${"failed".padStart(7)}${"worst".padStart(9)} of the tolerance`,
    ...rows,
    ...(report.firstFailure === null ? [] : [`first stage that fails: ${report.firstFailure}`]),
    ...shown(
      "failed",
      failed.map(({ name, share }) => `${name}: ${share.toFixed(2)} of the tolerance`),
    ),
    ...shown(
      "accepted beyond the tolerance",
      excused.map(({ name, note }) => `${name}: ${note}`),
    ),
    ...left,
    ...shown("not understood", notUnderstood),
  ];
}

function shown(title: string, lines: readonly string[]): string[] {
  if (lines.length === 0) return [];
  const more = lines.length > SHOWN_MAX ? [`  and ${lines.length - SHOWN_MAX} more`] : [];
  return [`${title}: ${lines.length}`, ...lines.slice(0, SHOWN_MAX).map((line) => `  ${line}`), ...more];
}

/** In the order in which stages were computed. */
function stageReports(compared: readonly Compared[]): StageReport[] {
  const stages = new Map<string, Compared[]>();
  for (const one of compared) {
    const stage = stageOf(one.name);
    stages.set(stage, [...(stages.get(stage) ?? []), one]);
  }
  return [...stages].map(([stage, list]) => {
    const worst = list.reduce((a, b) => (b.share > a.share ? b : a));
    const failed = list.filter(({ accepted }) => !accepted).length;
    return { stage, compared: list.length, failed, worst: worst.share, worstName: worst.name };
  });
}

/** Group and part: `track/point`, `grad/image sam_mask_decoder`, `decoder`. */
function stageOf(name: string): string {
  const [group = "", second = "", ...rest] = name
    .split("/")
    .filter((part) => part !== "chmean" && part !== "chabsmean");
  if (group === "grad")
    return `grad/${rest.length > 0 ? second : ""} ${(rest.at(-1) ?? second).split(".")[0]}`;
  return group === "track" || group === "train" ? `${group}/${second}` : group;
}
