// Applies prisma/migrations in order, as `prisma migrate deploy` would, and keeps its book in Prisma's own table, so
// that either may be used on the same database. Runs as the owner; the coordinator itself runs as another role.

import { createHash, createHmac, randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import pg from "pg";

const migrationsFolder = join(dirname(fileURLToPath(import.meta.url)), "../../prisma/migrations");
/** The advisory lock that Prisma's own engine takes while it migrates. */
const migrationLock = 72_707_369;
export const runtimeRole = "consilium_runtime";

export class MigrationError extends Error {
  override name = "MigrationError";
  readonly code: "migration.failed-before" | "migration.changed" | "migration.failed" | "migration.no-login";
  constructor(code: MigrationError["code"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

type Migration = { readonly name: string; readonly sql: string; readonly checksum: string };

/** @returns the names of the migrations that were applied now */
export async function migrate(ownerUrl: string): Promise<string[]> {
  const client = new pg.Client({ connectionString: ownerUrl });
  await client.connect();
  try {
    await client.query("SELECT pg_advisory_lock($1)", [migrationLock]);
    await client.query(`CREATE TABLE IF NOT EXISTS _prisma_migrations (
      id VARCHAR(36) PRIMARY KEY NOT NULL, checksum VARCHAR(64) NOT NULL, finished_at TIMESTAMPTZ,
      migration_name VARCHAR(255) NOT NULL, logs TEXT, rolled_back_at TIMESTAMPTZ,
      started_at TIMESTAMPTZ NOT NULL DEFAULT now(), applied_steps_count INTEGER NOT NULL DEFAULT 0)`);
    const pending = await pendingMigrations(client);
    for (const migration of pending) await apply(client, migration);
    return pending.map((migration) => migration.name);
  } finally {
    await client.end();
  }
}

/**
 * How the coordinator connects as a role that may append to the log and nothing more. With a password in the owner's
 * URL it gets a login of its own for this database, whose password is derived from the owner's; without one the owner's
 * login becomes the role on every connection.
 * @throws MigrationError `migration.no-login`
 */
export async function runtimeAccess(ownerUrl: string): Promise<{ url: string; role: string | null }> {
  const url = new URL(ownerUrl);
  if (!url.password) return { url: ownerUrl, role: runtimeRole };
  const client = new pg.Client({ connectionString: ownerUrl });
  await client.connect();
  try {
    // Roles belong to the whole server, which may serve several federations: each database has a login of its own.
    const { rows } = await client.query<{ database: string }>("SELECT current_database() AS database");
    const { database = "" } = rows[0] ?? {};
    const login = `${runtimeRole}_${createHash("sha256").update(database).digest("hex").slice(0, 12)}`;
    const secret = createHmac("sha256", decodeURIComponent(url.password)).update(`login ${login}`);
    const password = secret.digest("base64url");
    await makeLogin(client, login, password);
    url.username = login;
    url.password = password;
    return { url: url.toString(), role: null };
  } finally {
    await client.end();
  }
}

/** Under the lock of migrations, because two coordinators may start at once. */
async function makeLogin(client: pg.Client, login: string, password: string): Promise<void> {
  await client.query("SELECT pg_advisory_lock($1)", [migrationLock]);
  const known = await client.query("SELECT 1 FROM pg_roles WHERE rolname = $1", [login]);
  const verb = known.rowCount === 0 ? "CREATE" : "ALTER";
  try {
    await client.query(`${verb} ROLE ${login} LOGIN PASSWORD '${password}'`); // Base64url has no quotes.
    if (verb === "CREATE") await client.query(`GRANT ${runtimeRole} TO ${login}`);
  } catch (cause) {
    const advice = `the user of DATABASE_URL must be allowed to create roles and to grant ${runtimeRole}`;
    throw new MigrationError("migration.no-login", `no login could be made for the coordinator: ${advice}`, {
      cause,
    });
  }
}

async function pendingMigrations(client: pg.Client): Promise<Migration[]> {
  const { rows } = await client.query<{ migration_name: string; checksum: string; finished_at: Date | null }>(
    "SELECT migration_name, checksum, finished_at FROM _prisma_migrations WHERE rolled_back_at IS NULL",
  );
  const failed = rows.find((row) => row.finished_at === null);
  if (failed) {
    const advice = "restore the database from its backup, or repair it and mark the migration as resolved";
    throw new MigrationError("migration.failed-before", `${failed.migration_name} failed before: ${advice}`);
  }
  const applied = new Map(rows.map((row) => [row.migration_name, row.checksum]));
  const known = readMigrations();
  const changed = known.find(({ name, checksum }) => applied.has(name) && applied.get(name) !== checksum);
  if (changed)
    throw new MigrationError("migration.changed", `${changed.name} was changed after it was applied`);
  return known.filter(({ name }) => !applied.has(name));
}

function readMigrations(): Migration[] {
  const folders = readdirSync(migrationsFolder, { withFileTypes: true }).filter((entry) =>
    entry.isDirectory(),
  );
  return folders
    .map((entry) => entry.name)
    .sort()
    .map((name) => {
      const sql = readFileSync(join(migrationsFolder, name, "migration.sql"), "utf8");
      return { name, sql, checksum: createHash("sha256").update(sql).digest("hex") };
    });
}

async function apply(client: pg.Client, { name, sql, checksum }: Migration): Promise<void> {
  const id = randomUUID();
  const insert = "INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES ($1, $2, $3)";
  await client.query(insert, [id, checksum, name]);
  try {
    // The migration and the note that it is finished become true together.
    await client.query("BEGIN");
    await client.query(sql);
    const finish = "UPDATE _prisma_migrations SET finished_at = now(), applied_steps_count = 1 WHERE id = $1";
    await client.query(finish, [id]);
    await client.query("COMMIT");
  } catch (cause) {
    await client.query("ROLLBACK");
    await client.query("DELETE FROM _prisma_migrations WHERE id = $1", [id]); // Nothing of it was kept.
    const reason = cause instanceof Error ? cause.message : "unknown";
    const advice = "the user of DATABASE_URL must own the database and be allowed to create roles";
    throw new MigrationError("migration.failed", `${name} could not be applied (${reason}): ${advice}`, {
      cause,
    });
  }
}
