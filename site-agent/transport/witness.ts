// The site as a witness of the coordinator's log: every checkpoint it is shown must continue the one it holds, or an
// alarm is raised that the site signs. One check at a time; of those that arrive meanwhile only the newest is looked
// at. It never decides what follows from an alarm.

import type { PublicKey } from "@consilium/shared/base/brand.ts";
import type { Clock } from "@consilium/shared/base/clock.ts";
import { secondMs } from "@consilium/shared/base/units.ts";
import { type Checkpoint, CheckpointError, openCheckpoint } from "@consilium/shared/crypto/checkpoint.ts";
import { seal } from "@consilium/shared/crypto/envelope.ts";
import { equalBytes, verifyConsistency } from "@consilium/shared/crypto/merkle.ts";
import { AlarmDocument } from "@consilium/shared/protocol/documents.ts";
import { ProtocolError } from "@consilium/shared/protocol/errors.ts";
import type { AlarmReason, SiteEvent } from "@consilium/shared/protocol/site-session.ts";
import type { SiteIdentity } from "./session.ts";

/**
 * A coordinator of several processes may show a checkpoint that the process asked for a proof has not read yet. That it
 * cannot prove its own checkpoint this many times in a row is an alarm.
 */
export const unprovenInARowMax = 3;
/** How often a checkpoint goes into the journal: a coordinator whose log grows fast must not fill the site's disk. */
export const witnessIntervalMs = 10 * secondMs;

export type WitnessPorts = {
  readonly identity: SiteIdentity;
  readonly coordinatorKey: PublicKey;
  readonly clock: Clock;
  /** The checkpoint that the journal holds. */
  held(): { readonly size: number; readonly note: string } | null;
  /** @throws ProtocolError, TransportError */
  consistency(from: number, to: number): Promise<Uint8Array[]>;
  /** Takes the event and resolves when the journal holds what follows from it. */
  report(event: Extract<SiteEvent, { kind: "witnessed" | "log-inconsistent" }>): Promise<void>;
  /** A check that could not be made; the next checkpoint brings another. */
  onUnchecked(error: unknown): void;
};

type Verdict = "same" | "continues" | "unproven" | AlarmReason;

export class Witness {
  readonly #ports: WitnessPorts;
  #waiting: string | null = null;
  #isChecking = false;
  #unproven = 0;
  /** The newest checkpoint that continues the journal's; lost in a crash, which is no harm. */
  #newest: { readonly size: number; readonly note: string } | null = null;
  #reportedAtMs = Number.NEGATIVE_INFINITY;

  constructor(ports: WitnessPorts) {
    this.#ports = ports;
  }

  /** Take note of a checkpoint. Resolves when nothing is left to check. */
  async observe(note: string): Promise<void> {
    this.#waiting = note;
    if (this.#isChecking) return;
    this.#isChecking = true;
    try {
      for (let next = this.#take(); next !== null; next = this.#take()) await this.#check(next);
    } finally {
      this.#isChecking = false;
    }
  }

  /** The newest checkpoint into the journal, before the agent ends. */
  async flush(): Promise<void> {
    const newest = this.#newest;
    if (newest && newest.size > (this.#ports.held()?.size ?? -1)) {
      await this.#ports.report({ kind: "witnessed", ...newest });
    }
  }

  #take(): string | null {
    const note = this.#waiting;
    this.#waiting = null;
    return note;
  }

  async #check(note: string): Promise<void> {
    const { identity, coordinatorKey, held, report, onUnchecked } = this.#ports;
    const before = this.#newest ?? held();
    if (before?.note === note) return;
    const offered = opened(note, identity.origin, coordinatorKey);
    const holds = before && openCheckpoint(before.note, identity.origin, coordinatorKey);
    try {
      const verdict = offered ? await this.#compare(holds, offered) : "bad-signature";
      if (verdict === "same") return;
      if (verdict === "unproven") return onUnchecked(new ProtocolError("proof.out-of-range"));
      if (verdict === "continues") return await this.#remember({ size: offered?.size ?? 0, note });
      const sizes = { heldSize: holds?.size ?? 0, offeredSize: offered?.size ?? 0 };
      await report({ kind: "log-inconsistent", reason: verdict, envelope: this.#alarm(verdict, sizes) });
    } catch (error) {
      onUnchecked(error);
    }
  }

  async #remember(checkpoint: { readonly size: number; readonly note: string }): Promise<void> {
    const { clock, report } = this.#ports;
    this.#newest = checkpoint;
    if (clock.nowMs() - this.#reportedAtMs < witnessIntervalMs) return;
    this.#reportedAtMs = clock.nowMs();
    await report({ kind: "witnessed", ...checkpoint });
  }

  async #compare(held: Checkpoint | null, offered: Checkpoint): Promise<Verdict> {
    if (!held) return "continues";
    if (held.size === offered.size) return equalBytes(held.root, offered.root) ? "same" : "inconsistent";
    const [earlier, later] = held.size < offered.size ? [held, offered] : [offered, held];
    const proof = await this.#proof(earlier.size, later.size);
    if (proof === null) {
      this.#unproven += 1;
      if (this.#unproven < unprovenInARowMax) return "unproven";
      return offered.size < held.size ? "shrunk" : "inconsistent";
    }
    this.#unproven = 0;
    if (!verifyConsistency(earlier, later, proof)) return "inconsistent";
    return offered.size < held.size ? "same" : "continues"; // An older checkpoint of the same log proves nothing.
  }

  /** Null when the coordinator has no proof for its own checkpoint. */
  async #proof(from: number, to: number): Promise<Uint8Array[] | null> {
    try {
      return await this.#ports.consistency(from, to);
    } catch (error) {
      if (error instanceof ProtocolError && error.code === "proof.out-of-range") return null;
      throw error;
    }
  }

  #alarm(reason: AlarmReason, sizes: { heldSize: number; offeredSize: number }) {
    const { origin, site, key } = this.#ports.identity;
    return seal(AlarmDocument, { origin, site, ...sizes, reason }, key);
  }
}

function opened(note: string, origin: string, key: PublicKey): Checkpoint | null {
  try {
    return openCheckpoint(note, origin, key);
  } catch (error) {
    if (error instanceof CheckpointError) return null;
    throw error;
  }
}
