// What every command that talks to the coordinator begins with: identity, wire, ledger, session, client; and the order
// in which they end, so that the ledger's last balance is complete.

import { randomInt } from "node:crypto";
import { setTimeout as pauseFor } from "node:timers/promises";
import type { Clock } from "@consilium/shared/base/clock.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import type { Home } from "../identity/home.ts";
import { type Enrolled, readEnrolled } from "../identity/site-file.ts";
import { CoordinatorClient } from "../transport/coordinator-client.ts";
import { type Ledger, openLedger } from "../transport/ledger.ts";
import type { Patience } from "../transport/patience.ts";
import { Session } from "../transport/session.ts";
import { Wire } from "../transport/wire.ts";

export const systemClock: Clock = { nowMs: () => Date.now() };

export type Connection = {
  readonly enrolled: Enrolled;
  readonly wire: Wire;
  readonly ledger: Ledger;
  readonly session: Session;
  readonly client: CoordinatorClient;
  readonly patience: Patience;
  close(): Promise<void>;
};

/** @throws IdentityError, StoreError, TransportError */
export async function openConnection(home: Home): Promise<Connection> {
  const enrolled = await readEnrolled(home);
  const { file, identity, ca } = enrolled;
  const wire = new Wire({
    base: new URL(file.url),
    insecureHttp: file.insecureHttp,
    ...(ca !== null && { ca }),
  });
  const ledger = await openLedger({ folder: home.ledger, clock: systemClock, pid: process.pid });
  const port = { wire, book: ledger };
  const session = new Session(port, identity);
  return {
    enrolled,
    wire,
    ledger,
    session,
    client: new CoordinatorClient(port, session),
    patience: {
      prng: new Prng(randomInt(2 ** 32)), // Jitter: sites must not draw the same delays.
      pause: (durationMs, signal) => pauseFor(durationMs, undefined, { ...(signal && { signal }) }),
    },
    close: async () => {
      await wire.close();
      await ledger.close(wire);
    },
  };
}
