// What goes wrong in one simulated federation, drawn per seed. Each fault is switched off in some seeds, so that
// every combination is met (swarm testing, Groce et al. 2012).

import type { Prng } from "@consilium/shared/base/prng.ts";

export type Faults = {
  readonly loss: number;
  readonly duplicate: number;
  readonly delayMsMax: number;
  /** Per job: a node's link is cut or comes back. */
  readonly partition: number;
  /** Per job: a process dies. */
  readonly crash: number;
  /** After any single effect: the process dies. */
  readonly crashAfterEffect: number;
  readonly restartMsMax: number;
  /** A site sends tensors that do not pass intake. */
  readonly brokenUpdate: number;
  /** Per job: the operator suspends, resumes, aborts or withdraws. */
  readonly operator: number;
};

export function drawFaults(prng: Prng): Faults {
  const some = (max: number): number => (prng.chance(0.3) ? 0 : prng.uniform(0, max));
  return {
    loss: some(0.3),
    duplicate: some(0.3),
    delayMsMax: prng.int(1, 400),
    partition: some(0.02),
    crash: some(0.02),
    crashAfterEffect: some(0.04),
    restartMsMax: prng.int(10, 1500),
    brokenUpdate: some(0.3),
    operator: some(0.01),
  };
}

/** Everything works again; progress becomes an obligation. */
export const healed: Faults = {
  loss: 0,
  duplicate: 0,
  delayMsMax: 5,
  partition: 0,
  crash: 0,
  crashAfterEffect: 0,
  restartMsMax: 1,
  brokenUpdate: 0,
  operator: 0,
};
