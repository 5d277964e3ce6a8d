// One running coordinator: its services wired over a database, a data folder and a port. The command line and the
// tests start it here; nothing else puts the parts together.

import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import type { Clock } from "@consilium/shared/base/clock.ts";
import { hourMs, secondMs } from "@consilium/shared/base/units.ts";
import type { SigningKey } from "@consilium/shared/crypto/keys.ts";
import { socketMessageBytesMax } from "@consilium/shared/protocol/limits.ts";
import type { FastifyInstance } from "fastify";
import { Server } from "socket.io";
import { simdKernel } from "./aggregation/vector-kernel.ts";
import { buildApp } from "./app.ts";
import { AuditLog } from "./audit/audit-log.ts";
import { type FsckReport, fsck } from "./audit/fsck.ts";
import { type CoordinatorConfig, folders } from "./config.ts";
import type { IntakePorts } from "./intake/admit.ts";
import { Uploads } from "./intake/uploads.ts";
import { readOrMakeSigningKey, readOrMakeToken } from "./key-files.ts";
import type { Logger } from "./logger.ts";
import type { LogStore, SessionStore } from "./persistence/ports.ts";
import { PlanBook } from "./rounds/plan-book.ts";
import { RoundRunner, type RoundRunnerPorts } from "./rounds/round-runner.ts";
import { SiteMessages } from "./rounds/site-messages.ts";
import { SiteDirectory, type SiteDirectoryPorts } from "./sites/site-directory.ts";
import { SiteSessions } from "./sites/site-sessions.ts";
import { OperatorNamespace } from "./sockets/operator-namespace.ts";
import { SiteNamespace } from "./sockets/site-namespace.ts";
import { Studies } from "./studies/studies.ts";
import { FileArtifactStore } from "./versions/artifact-store.ts";
import { sweepRetention } from "./versions/retention.ts";

export type CoordinatorPorts = {
  readonly logStore: LogStore;
  readonly sessionStore: SessionStore;
  readonly clock: Clock;
  readonly logger: Logger;
};

export type Coordinator = {
  /** Where it listens. */
  readonly url: string;
  readonly origin: string;
  readonly operatorTokenFile: string;
  stop(): Promise<void>;
};

const retentionIntervalMs = hourMs;

/** The log's name follows from the key that signs it. */
export function originOf(key: SigningKey): string {
  return `consilium.log/${createHash("sha256").update(key.publicKey).digest("hex").slice(0, 16)}`;
}

export async function startCoordinator(
  config: CoordinatorConfig,
  ports: CoordinatorPorts,
): Promise<Coordinator> {
  const { clock, logger } = ports;
  const paths = folders(config.dataFolder);
  const services = await createServices(config, ports);
  const { app, log, runner, live } = services;
  const sockets = attachSockets(app);
  const operators = new OperatorNamespace(sockets, services.operatorToken);
  log.onEntry(({ index, atMs, record }) => operators.publish({ kind: "entry", index, atMs, record }));
  live.sites = new SiteNamespace(sockets, {
    sessions: services.sessions,
    clock,
    logger,
    checkpoint: () => log.checkpoint,
    receive: (site, message) => services.messages.receive(site, message),
    onProgress: (site, progress) => operators.publish({ kind: "progress", site, progress }),
    onPresence: (site, connected) => operators.publish({ kind: "presence", site, connected }),
  });
  await app.listen({ host: config.host, port: config.port });
  live.url = addressOf(app, config);
  writeFileSync(paths.address, `${live.url}\n`);
  await runner.start();
  const sweep = (): void => void sweepRetention({ ...services, clock }).catch(services.onFault);
  sweep();
  const sweeping = setInterval(sweep, retentionIntervalMs);
  return {
    url: live.url,
    origin: log.origin,
    operatorTokenFile: paths.operatorToken,
    async stop() {
      clearInterval(sweeping);
      runner.stop();
      await sockets.close();
      await app.close();
    },
  };
}

/** What exists only once the port is open. */
type Live = { sites: SiteNamespace | null; url: string };

async function createServices(config: CoordinatorConfig, ports: CoordinatorPorts) {
  const { clock, logger, logStore: store } = ports;
  const paths = folders(config.dataFolder);
  const key = readOrMakeSigningKey(paths.signingKey);
  const operatorToken = readOrMakeToken(paths.operatorToken);
  const log = await AuditLog.open({ store, key, clock, origin: originOf(key) });
  const artifacts = new FileArtifactStore(paths.artifacts);
  const uploads = new Uploads(paths.uploads, artifacts);
  const sessions = new SiteSessions({ log, store: ports.sessionStore, clock });
  const plans = new PlanBook(key.publicKey);
  const kernel = simdKernel();
  const live: Live = { sites: null, url: "" };
  const onFault = (error: unknown): void => logger.error({ err: error }, "background work failed");
  const send: RoundRunnerPorts["send"] = (site, message) => live.sites?.send(site, message);
  const runner = new RoundRunner({ log, plans, artifacts, kernel, key, clock, onFault, send });
  const publicUrl = (): string => config.publicUrl ?? live.url;
  const disconnect: SiteDirectoryPorts["disconnect"] = (site) => live.sites?.disconnect(site);
  const sites = new SiteDirectory({ log, runner, clock, publicUrl, disconnect });
  const studies = new Studies({ log, runner, artifacts, key });
  const hasUploaded: IntakePorts["hasUploaded"] = (site, blob) => uploads.state(site, blob).complete;
  const messages = new SiteMessages({
    log,
    plans,
    runner,
    intake: { store: artifacts, kernel, hasUploaded },
  });
  const isConnected = (site: string): boolean => live.sites?.isConnected(site) ?? false;
  const checkReady = (): Promise<void> => log.refresh();
  const check = (): Promise<FsckReport> => fsck(store, log.origin, key.publicKey);
  const routes = { log, store, artifacts, uploads, sessions, operatorToken, plans, sites, studies };
  const app = await buildApp(
    { ...routes, isConnected, checkReady, fsck: check },
    { logger, tls: config.tls },
  );
  return { app, log, plans, artifacts, sessions, operatorToken, runner, messages, live, onFault };
}

function attachSockets(app: FastifyInstance): Server {
  return new Server(app.server, {
    serveClient: false,
    transports: ["websocket"],
    maxHttpBufferSize: socketMessageBytesMax,
    connectTimeout: 20 * secondMs,
    pingInterval: 20 * secondMs,
    pingTimeout: 60 * secondMs,
  });
}

function addressOf(app: FastifyInstance, { host, tls }: CoordinatorConfig): string {
  const address = app.server.address();
  const port = typeof address === "object" && address ? address.port : 0;
  const name = host === "0.0.0.0" || host === "::" ? "127.0.0.1" : host;
  return `${tls ? "https" : "http"}://${name.includes(":") ? `[${name}]` : name}:${port}`;
}
