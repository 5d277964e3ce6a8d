// `consilium serve`: the coordinator's process. Opens the database, brings it up to date, starts the services, and
// ends cleanly on a signal.

import { chmodSync, mkdirSync } from "node:fs";
import type { Entries } from "@consilium/shared/base/environment.ts";
import { readSettings } from "../config.ts";
import { startCoordinator } from "../coordinator.ts";
import { createLogger } from "../logger.ts";
import { migrate, runtimeAccess } from "../persistence/migrate.ts";

const stopMsMax = 30_000;

export type ServeOptions = {
  readonly environment: Entries;
  /** Resolves when the process is asked to end. */
  readonly untilSignal: Promise<string>;
  readonly print: (line: string) => void;
};

export async function serve({ environment, untilSignal, print }: ServeOptions): Promise<void> {
  const { config, secrets } = readSettings(environment);
  const logger = createLogger(config.logLevel);
  makeDataFolder(config.dataFolder);
  await using database = await openStores(config.dataFolder, { databaseUrl: secrets.databaseUrl, print });
  const clock = { nowMs: () => Date.now() };
  const coordinator = await startCoordinator(config, { ...database.stores, clock, logger });
  print(`consilium coordinator ${coordinator.origin}`);
  print(`  listening      ${coordinator.url}`);
  print(`  interface      ${coordinator.url}/docs`);
  print(`  operator token ${coordinator.operatorTokenFile}`);
  const signal = await untilSignal;
  print(`${signal}: stopping`);
  await Promise.race([coordinator.stop(), new Promise((resolve) => setTimeout(resolve, stopMsMax).unref())]);
}

/** Others may pass through the folder, as the database's user must, but not look into it; secrets have modes of their own. */
function makeDataFolder(folder: string): void {
  if (mkdirSync(folder, { recursive: true }) !== undefined) chmodSync(folder, 0o711);
}

/** The embedded server, or the one that is given. The packages of either are loaded only when they are needed. */
async function openStores(
  dataFolder: string,
  { databaseUrl, print }: { databaseUrl: string | null; print: (line: string) => void },
) {
  const { ensureClient } = await import("../persistence/ensure-client.ts");
  ensureClient();
  const embedded =
    databaseUrl === null
      ? await (await import("../persistence/embedded-postgres.ts")).startEmbeddedPostgres(dataFolder)
      : null;
  try {
    if (embedded?.place.isFallback)
      print(`  database       ${embedded.place.folder} (its user cannot reach ${dataFolder})`);
    const ownerUrl = embedded?.url ?? databaseUrl ?? "";
    await migrate(ownerUrl);
    const { url, role } = await runtimeAccess(ownerUrl);
    const { openDatabase } = await import("../persistence/prisma-client.ts");
    const { PrismaLogStore } = await import("../persistence/prisma-log-store.ts");
    const { PrismaSessionStore } = await import("../persistence/prisma-session-store.ts");
    const database = openDatabase(url, role);
    return {
      stores: { logStore: new PrismaLogStore(database), sessionStore: new PrismaSessionStore(database) },
      async [Symbol.asyncDispose]() {
        await database.$disconnect();
        await embedded?.stop();
      },
    };
  } catch (error) {
    await embedded?.stop();
    throw error;
  }
}
