// The whole federation in one thread: the real machines of both sides under a virtual clock, a bad network, and disks
// that survive crashes. A failure is a seed.

import { assert } from "@consilium/shared/base/assert.ts";
import type { SiteId } from "@consilium/shared/base/brand.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { planDigest, type StudyPlan } from "@consilium/shared/model/study-plan.ts";
import type { ToCoordinator, ToSite } from "@consilium/shared/protocol/messages.ts";
import { CoordinatorProcess } from "./coordinator-process.ts";
import { drawFaults, type Faults, healed } from "./faults.ts";
import { coordinatorName, type Host, type Machines } from "./host.ts";
import { Agenda } from "./network.ts";
import * as scenery from "./scenery.ts";
import { SiteProcess } from "./site-process.ts";

type Process = { up: boolean; life: number; cut: boolean; skewMs: number; start: () => void };

/** A message as it left its sender, with the length of the sender's disk at that moment. */
export type Sent = {
  readonly from: string;
  readonly to: string;
  readonly message: ToSite | ToCoordinator;
  readonly recordsBefore: number;
};

export class World implements Host {
  readonly prng: Prng;
  readonly machines: Machines;
  readonly plan: StudyPlan;
  readonly coordinator: CoordinatorProcess;
  readonly sites = new Map<SiteId, SiteProcess>();
  /** Every message that ever left a process, for the checkers. */
  readonly wire: Sent[] = [];
  readonly #agenda = new Agenda();
  readonly #processes = new Map<string, Process>();
  #faults: Faults;
  #nowMs = 0;
  crashes = 0;

  constructor(seed: number, machines: Machines) {
    this.prng = new Prng(seed);
    this.machines = machines;
    const names = Array.from({ length: this.prng.int(2, 6) }, (_, index) => scenery.siteName(index));
    this.plan = scenery.drawPlan(this.prng, names);
    this.#faults = drawFaults(this.prng);
    this.#admit(coordinatorName, () => this.coordinator.start());
    for (const name of names) {
      const site = new SiteProcess(this, name, planDigest(this.plan));
      this.sites.set(name, site);
      this.#admit(name, () => site.start());
    }
    this.coordinator = new CoordinatorProcess(this, this.plan);
    for (const name of this.#processes.keys()) this.#start(name);
  }

  /** Run the next job; false when nothing is left to do. */
  tick(): boolean {
    const job = this.#agenda.next();
    if (!job) return false;
    assert(job.atMs >= this.#nowMs, "time never runs backwards");
    this.#nowMs = job.atMs;
    const process = this.#process(job.node);
    if (job.life === null || (process.up && process.life === job.life)) job.run();
    this.#disturb();
    return true;
  }

  /** Safety has been shown; now every fault heals and progress becomes an obligation. */
  heal(): void {
    this.#faults = healed;
    for (const [name, process] of this.#processes) {
      process.cut = false;
      if (!process.up) this.#start(name);
    }
    this.coordinator.resumeEverySite();
  }

  faults(): Faults {
    return this.#faults;
  }

  clock(name: string): number {
    return this.#nowMs + this.#process(name).skewMs;
  }

  life(name: string): number {
    return this.#process(name).life;
  }

  after(node: string, inMs: number, run: () => void): void {
    const atMs = this.#nowMs + Math.max(0, inMs);
    this.#agenda.schedule({ atMs, node, life: this.life(node), run });
  }

  send(from: string, to: string, message: ToSite | ToCoordinator): void {
    const disk = from === coordinatorName ? this.coordinator.log : this.#site(from).journal;
    this.wire.push({ from, to, message, recordsBefore: disk.length });
    const copies = this.prng.chance(this.#faults.duplicate) ? 2 : 1;
    for (let copy = 0; copy < copies; copy += 1) {
      if (this.prng.chance(this.#faults.loss)) continue;
      const atMs = this.#nowMs + this.prng.int(1, this.#faults.delayMsMax);
      this.#agenda.schedule({
        atMs,
        node: to,
        life: null,
        run: () => this.#deliver({ from, to, message }),
      });
    }
  }

  /** The process may die between any two effects: that is where the interesting faults are. */
  diesHere(name: string, life: number): boolean {
    const process = this.#process(name);
    if (process.life !== life || !process.up) return true;
    if (!this.prng.chance(this.#faults.crashAfterEffect)) return false;
    this.#crash(name);
    return true;
  }

  #deliver({ from, to, message }: Omit<Sent, "recordsBefore">): void {
    if (!this.#process(to).up || this.#process(from).cut || this.#process(to).cut) return;
    // The direction decides which union the message belongs to.
    if (to === coordinatorName) this.coordinator.receive(this.#site(from).name, message as ToCoordinator);
    else this.#site(to).receive(message as ToSite);
  }

  #disturb(): void {
    const name = this.prng.pick([...this.#processes.keys()]);
    const process = this.#process(name);
    if (process.up && this.prng.chance(this.#faults.crash)) this.#crash(name);
    if (this.prng.chance(this.#faults.partition)) process.cut = !process.cut;
    const operates = this.prng.chance(this.#faults.operator);
    if (operates && this.#process(coordinatorName).up) this.coordinator.operateAtRandom();
  }

  #admit(name: string, start: () => void): void {
    const skewMs = this.prng.int(-1500, 1500);
    this.#processes.set(name, { up: false, life: 0, cut: false, skewMs, start });
  }

  #start(name: string): void {
    const process = this.#process(name);
    process.up = true;
    process.life += 1; // Timers and training of the former life are void.
    process.start();
  }

  #crash(name: string): void {
    const process = this.#process(name);
    process.up = false;
    this.crashes += 1;
    const atMs = this.#nowMs + this.prng.int(1, this.#faults.restartMsMax);
    this.#agenda.schedule({
      atMs,
      node: name,
      life: null,
      run: () => {
        if (!process.up) this.#start(name);
      },
    });
  }

  #process(name: string): Process {
    const process = this.#processes.get(name);
    assert(process, `no process ${name}`);
    return process;
  }

  #site(name: string): SiteProcess {
    const site = this.sites.get(name as SiteId); // Every process but the coordinator is a site.
    assert(site, `no site ${name}`);
    return site;
  }
}
