// How long a study is left alone after its jobs have failed: twice as long after every failure, up to a bound, so that
// a folder that cannot be read does not keep a hospital's machine busy. A success forgets everything.

import type { StudyId } from "@consilium/shared/base/brand.ts";
import { minuteMs, secondMs } from "@consilium/shared/base/units.ts";

export const holdOffMsFirst = 5 * secondMs;
export const holdOffMsMax = 10 * minuteMs;

export class FailureMemory {
  readonly #studies = new Map<StudyId, { failures: number; untilMs: number }>();

  /** @returns how long the study is now left alone */
  note(study: StudyId, nowMs: number): number {
    const failures = (this.#studies.get(study)?.failures ?? 0) + 1;
    const holdOffMs = Math.min(holdOffMsMax, holdOffMsFirst * 2 ** Math.min(failures - 1, 30));
    this.#studies.set(study, { failures, untilMs: nowMs + holdOffMs });
    return holdOffMs;
  }

  forget(study: StudyId): void {
    this.#studies.delete(study);
  }

  isHeldOff(study: StudyId, nowMs: number): boolean {
    return nowMs < (this.#studies.get(study)?.untilMs ?? 0);
  }
}
