// A site's side of the network for tests: wire, ledger, session and client as the agent composes them, on a home folder
// of the test's own.

import { join } from "node:path";
import { siteId } from "@consilium/shared/base/brand.ts";
import { ManualClock } from "@consilium/shared/base/clock.ts";
import { Prng } from "@consilium/shared/base/prng.ts";
import { generateSigningKey } from "@consilium/shared/crypto/keys.ts";
import { BlobStore } from "../../site-agent/store/blobs.ts";
import { type ChannelListener, ControlChannel } from "../../site-agent/transport/control-channel.ts";
import { CoordinatorClient } from "../../site-agent/transport/coordinator-client.ts";
import type { Exchange } from "../../site-agent/transport/exchange.ts";
import { type Ledger, openLedger } from "../../site-agent/transport/ledger.ts";
import type { Patience } from "../../site-agent/transport/patience.ts";
import { Session, type SiteIdentity } from "../../site-agent/transport/session.ts";
import { Wire } from "../../site-agent/transport/wire.ts";
import type { HonestCoordinator } from "./honest-coordinator/honest-coordinator.ts";

export const patience: Patience = { pause: async () => {}, prng: new Prng(1) };

export type SiteLine = {
  readonly identity: SiteIdentity;
  readonly wire: Wire;
  readonly ledger: Ledger;
  readonly port: Exchange;
  readonly session: Session;
  readonly client: CoordinatorClient;
  readonly blobs: BlobStore;
  readonly ledgerFolder: string;
  channel(listener: Partial<ChannelListener>): ControlChannel;
  close(): Promise<void>;
};

export async function siteLine(
  coordinator: HonestCoordinator,
  options: { folder: string; port?: number; ca?: string; noProgressMs?: number },
): Promise<SiteLine> {
  const identity = { site: siteId("hospital-a"), origin: coordinator.origin, key: generateSigningKey() };
  coordinator.admit(identity.site, identity.key.publicKey);
  const base = new URL(coordinator.url(options.port));
  const wire = new Wire({ base, insecureHttp: false, ...(options.ca !== undefined && { ca: options.ca }) });
  const ledgerFolder = join(options.folder, "ledger");
  const clock = new ManualClock(1);
  const ledger = await openLedger({ folder: ledgerFolder, clock, pid: process.pid });
  const { noProgressMs } = options;
  const port: Exchange = { wire, book: ledger, ...(noProgressMs !== undefined && { noProgressMs }) };
  const session = new Session(port, identity);
  const blobs = await BlobStore.open(join(options.folder, "blobs"));
  return {
    identity,
    wire,
    ledger,
    port,
    session,
    client: new CoordinatorClient(port, session),
    blobs,
    ledgerFolder,
    channel: (listener) =>
      new ControlChannel({ wire, book: ledger, session, clock, ...patience }, { ...silent, ...listener }),
    close: async () => {
      await wire.close();
      await ledger.close(wire);
    },
  };
}

const silent: ChannelListener = {
  onConnected: () => {},
  onDisconnected: () => {},
  onMessage: () => {},
  onGap: () => {},
  onCheckpoint: () => {},
  onRefused: () => {},
};
