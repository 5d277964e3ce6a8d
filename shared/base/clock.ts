// The port through which time enters. Production wires the system clock at the composition root; tests and the
// simulator wire their own.

export type Clock = {
  /** Milliseconds since 1970-01-01 UTC. */
  readonly nowMs: () => number;
};

/** A clock that only moves when it is told to. */
export class ManualClock implements Clock {
  #now: number;
  constructor(startMs = 0) {
    this.#now = startMs;
  }
  readonly nowMs = (): number => this.#now;
  advance(byMs: number): void {
    this.#now += byMs;
  }
}
