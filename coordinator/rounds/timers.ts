// One alarm per study. Alarms are forgotten in a crash: the deadlines are in the log, and starting sets them again.

import type { StudyId } from "@consilium/shared/base/brand.ts";
import type { Clock } from "@consilium/shared/base/clock.ts";
import { hourMs } from "@consilium/shared/base/units.ts";

/** Longer waits are cut into pieces of this length: the platform's timer counts in 31 bits. */
const sleepMsMax = hourMs;

export class StudyTimers {
  readonly #clock: Clock;
  readonly #alarms = new Map<StudyId, NodeJS.Timeout>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Call `ring` at `atMs`, instead of any alarm of this study before. */
  set(study: StudyId, atMs: number, ring: () => void): void {
    clearTimeout(this.#alarms.get(study));
    const waitMs = Math.max(0, atMs - this.#clock.nowMs());
    const wake = (): void => (waitMs > sleepMsMax ? this.set(study, atMs, ring) : ring());
    this.#alarms.set(study, setTimeout(wake, Math.min(waitMs, sleepMsMax)));
  }

  stop(): void {
    for (const alarm of this.#alarms.values()) clearTimeout(alarm);
    this.#alarms.clear();
  }
}
