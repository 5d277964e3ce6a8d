// Progress is worth a message now and then, not for every step: the first and the last are always told, those between
// at most once an interval.

import type { Clock } from "@consilium/shared/base/clock.ts";
import { progressIntervalMs } from "@consilium/shared/protocol/limits.ts";

export class ProgressPace {
  readonly #clock: Clock;
  #toldAtMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether this step is to be told. */
  isDue(step: number, steps: number): boolean {
    const nowMs = this.#clock.nowMs();
    if (step !== steps && nowMs - this.#toldAtMs < progressIntervalMs) return false;
    this.#toldAtMs = nowMs;
    return true;
  }
}
