// Events on standard output: for machines every one as a line of JSON, for people a line each, with progress written
// over itself on a terminal and now and then elsewhere.

import type { Clock } from "@consilium/shared/base/clock.ts";
import { secondMs } from "@consilium/shared/base/units.ts";
import { type AgentEvent, describeEvent } from "../events.ts";

/** Where lines cannot be written over, progress is shown this often. */
const progressLineMs = 10 * secondMs;
const eraseLine = "\r\u001b[K";

export type EventOutput = {
  readonly json: boolean;
  readonly isTerminal: boolean;
  readonly clock: Clock;
  /** Text as it is, line ends included. */
  readonly write: (text: string) => void;
};

export class EventPrinter {
  readonly #output: EventOutput;
  #shownAtMs = Number.NEGATIVE_INFINITY;
  #isLineOpen = false;

  constructor(output: EventOutput) {
    this.#output = output;
  }

  print(event: AgentEvent): void {
    const { json, isTerminal, clock, write } = this.#output;
    if (json) {
      write(`${JSON.stringify({ atMs: clock.nowMs(), ...event })}\n`);
      return;
    }
    const isPassing = event.kind === "job.progress" && event.step < event.steps;
    if (isPassing && !isTerminal) {
      if (clock.nowMs() - this.#shownAtMs < progressLineMs) return;
      this.#shownAtMs = clock.nowMs();
    }
    const start = this.#isLineOpen ? eraseLine : "";
    this.#isLineOpen = isPassing && isTerminal;
    write(`${start}${describeEvent(event)}${this.#isLineOpen ? "" : "\n"}`);
  }
}
