// One embedded PostgreSQL for a test file, in a folder of its own.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type EmbeddedPostgres,
  startEmbeddedPostgres,
} from "@consilium/coordinator/persistence/embedded-postgres.ts";
import { migrate, runtimeAccess } from "@consilium/coordinator/persistence/migrate.ts";
import { type Database, openDatabase } from "@consilium/coordinator/persistence/prisma-client.ts";

export type TestDatabase = {
  readonly postgres: EmbeddedPostgres;
  readonly database: Database;
  close(): Promise<void>;
};

export async function startTestDatabase(): Promise<TestDatabase> {
  const folder = mkdtempSync(join(tmpdir(), "consilium-database-"));
  const postgres = await startEmbeddedPostgres(folder);
  await migrate(postgres.url);
  const access = await runtimeAccess(postgres.url);
  const database = openDatabase(access.url, access.role);
  return {
    postgres,
    database,
    async close() {
      await database.$disconnect();
      await postgres.stop();
      rmSync(folder, { recursive: true, force: true });
      if (postgres.place.isFallback) rmSync(postgres.place.folder, { recursive: true, force: true });
    },
  };
}
