// What a simulated process gets from the world around it: chance, time, the network, and the possibility of dying.

import type { Prng } from "@consilium/shared/base/prng.ts";
import type { ToCoordinator, ToSite } from "@consilium/shared/protocol/messages.ts";
import type { decide } from "@consilium/shared/protocol/round.ts";
import type { decideSite } from "@consilium/shared/protocol/site-session.ts";
import type { Faults } from "./faults.ts";

/** The functions under test; a mutant replaces one of them. */
export type Machines = { readonly decide: typeof decide; readonly decideSite: typeof decideSite };

export const coordinatorName = "coordinator";

export type Host = {
  readonly prng: Prng;
  readonly machines: Machines;
  faults(): Faults;
  /** What the process believes the time to be: clocks disagree. */
  clock(process: string): number;
  /** Run later in this life of the process; a crash forgets it. */
  after(process: string, inMs: number, run: () => void): void;
  send(from: string, to: string, message: ToSite | ToCoordinator): void;
  /** Called after every single effect: true when the process has just died, or had died before. */
  diesHere(process: string, life: number): boolean;
  life(process: string): number;
};
