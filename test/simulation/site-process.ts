// A site's shell in miniature. Training is a delay that ends in other bytes every time, so that a round has one update
// only because the journal says so.

import type { Sha256, SiteId } from "@consilium/shared/base/brand.ts";
import type { ToSite } from "@consilium/shared/protocol/messages.ts";
import {
  afterJob,
  evolveSite,
  initialSiteState,
  type SiteEffect,
  type SiteEvent,
  type SiteRecord,
  type SiteState,
  whileRunning,
} from "@consilium/shared/protocol/site-session.ts";
import { coordinatorName, type Host } from "./host.ts";
import * as scenery from "./scenery.ts";

/** How often a simulated site says hello. */
const helloMs = 200;
export const examplesOfSite = 10;

export class SiteProcess {
  readonly name: SiteId;
  /** The disk. */
  readonly journal: SiteRecord[] = [];
  readonly #host: Host;
  readonly #plan: Sha256;
  #state: SiteState = initialSiteState;

  constructor(host: Host, name: SiteId, plan: Sha256) {
    this.#host = host;
    this.name = name;
    this.#plan = plan;
  }

  start(): void {
    const { prng } = this.#host;
    this.#state = this.journal.reduce(evolveSite, initialSiteState);
    this.#after(0, () => this.#handle({ kind: "started" }));
    this.#after(prng.int(0, helloMs), () => this.#sayHello());
    // The hospital approves after a while; an approval already in the journal changes nothing.
    const approval: scenery.SimulatedApproval = {
      site: this.name,
      plan: this.#plan,
      examples: examplesOfSite,
    };
    const envelope = scenery.unsigned(approval, this.name);
    const event = { kind: "approval", study: scenery.study, ...approval, envelope } as const;
    this.#after(prng.int(0, 800), () => this.#handle(event));
  }

  receive(message: ToSite): void {
    this.#handle({ kind: "message", message });
  }

  #sayHello(): void {
    this.#handle({ kind: "timer" });
    this.#after(helloMs, () => this.#sayHello());
  }

  #handle(event: SiteEvent): void {
    const life = this.#host.life(this.name);
    this.#state = afterJob(this.#state, event);
    for (const effect of this.#host.machines.decideSite(this.#state, event)) {
      this.#state = whileRunning(this.#state, effect);
      this.#execute(effect);
      if (this.#host.diesHere(this.name, life)) return;
    }
  }

  #execute(effect: SiteEffect): void {
    switch (effect.kind) {
      case "append":
        this.journal.push(effect.record);
        this.#state = evolveSite(this.#state, effect.record);
        break;
      case "send":
        this.#host.send(this.name, coordinatorName, effect.message);
        break;
      case "submit":
        this.#host.send(this.name, coordinatorName, {
          kind: "update.submit",
          envelope: effect.update.envelope,
        });
        break;
      default:
        this.#work(effect);
    }
  }

  #work(effect: Extract<SiteEffect, { kind: "train" | "evaluate" | "install" }>): void {
    const { prng } = this.#host;
    const end = effect.kind === "train" ? this.#train(effect.offer) : this.#look(effect);
    const event: SiteEvent = prng.chance(this.#host.faults().crash) ? { kind: "failed" } : end;
    this.#after(prng.int(10, effect.kind === "train" ? 800 : 300), () => this.#handle(event));
  }

  #train(offer: Extract<SiteEffect, { kind: "train" }>["offer"]): SiteEvent {
    const { prng } = this.#host;
    const { brokenUpdate } = this.#host.faults();
    const delta = scenery.digest(`${this.name} ${offer.round} ${prng.uint32()}`);
    const update: scenery.SimulatedUpdate = {
      site: this.name,
      round: offer.round,
      plan: offer.plan,
      baseVersion: offer.base.version,
      delta,
      examples: prng.chance(brokenUpdate) ? examplesOfSite + 1 : examplesOfSite,
      broken: prng.chance(brokenUpdate),
    };
    const envelope = scenery.unsigned(update, this.name);
    return { kind: "trained", study: scenery.study, round: offer.round, delta, bytes: 1, envelope };
  }

  #look(effect: Extract<SiteEffect, { kind: "evaluate" | "install" }>): SiteEvent {
    const { study } = scenery;
    if (effect.kind === "install") {
      const version = effect.release.released?.version ?? null;
      return { kind: "installed", study, version, envelope: scenery.unsigned({ version }, this.name) };
    }
    const { version } = effect.offer.candidate;
    const meanDice = this.#host.prng.int(0, 100) / 100;
    const report: scenery.SimulatedReport = { site: this.name, version, meanDice };
    return { kind: "evaluated", study, version, envelope: scenery.unsigned(report, this.name) };
  }

  #after(inMs: number, run: () => void): void {
    this.#host.after(this.name, inMs, run);
  }
}
