// The audit trail against its own database: what the running coordinator may do, and what a superuser cannot hide.

import { execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startEmbeddedPostgres } from "@consilium/coordinator/persistence/embedded-postgres.ts";
import { migrate, runtimeAccess } from "@consilium/coordinator/persistence/migrate.ts";
import { PrismaLogStore } from "@consilium/coordinator/persistence/prisma-log-store.ts";
import { PrismaSessionStore } from "@consilium/coordinator/persistence/prisma-session-store.ts";
import pg from "pg";
import t from "tap";
import {
  openSmallStudy,
  runSmallStudy,
  startFederation,
  submitUpdate,
  type TestFederation,
} from "../support/federation.ts";
import { PlainSite } from "../support/plain-site.ts";
import { startTestDatabase, type TestDatabase } from "../support/postgres.ts";

const stores = ({ database }: TestDatabase) => ({
  logStore: new PrismaLogStore(database),
  sessionStore: new PrismaSessionStore(database),
});

async function verification(federation: TestFederation): Promise<{ ok: boolean; faults: string[] }> {
  return (await federation.operator("POST", "/v1/audit/verification", {})).body as {
    ok: boolean;
    faults: string[];
  }; // VerificationAnswer.
}

t.test(
  "a study in PostgreSQL ends verified, and no row of its tables can be changed without a trace",
  async (t) => {
    const test = await startTestDatabase();
    t.teardown(() => test.close());
    const federation = await startFederation(stores(test));
    t.teardown(() => federation.close());
    const sites = [await federation.enrol("hospital-a"), await federation.enrol("hospital-b")];
    const open = await openSmallStudy(federation, sites);
    await federation.operator("POST", "/v1/invitations", { site: "hospital-c" });
    await runSmallStudy(open, 2);
    await federation.operator("POST", "/v1/studies/small/release", { version: null, reason: "" });
    t.strictSame(await verification(federation), {
      ...(await verification(federation)),
      ok: true,
      faults: [],
    });

    const superuser = new pg.Client({ connectionString: test.postgres.url });
    await superuser.connect();
    t.teardown(() => superuser.end());
    for (const table of ["audit_entry", "audit_checkpoint"]) {
      for (const statement of [
        `UPDATE ${table} SET ${table === "audit_entry" ? "kind = 'x'" : "note = 'x'"}`,
        `DELETE FROM ${table}`,
        `TRUNCATE ${table}`,
      ]) {
        await t.rejects(superuser.query(statement), /append-only/, `the owner: ${statement}`);
        await t.rejects(
          test.database.$executeRawUnsafe(statement),
          /permission denied/,
          `the coordinator: ${statement}`,
        );
      }
    }
    await t.rejects(test.database.$executeRawUnsafe("DROP TABLE site"), /must be owner/);
    await t.rejects(test.database.$executeRawUnsafe("DELETE FROM site"), /permission denied/);

    // Behind the triggers, one row and one column at a time, and back again.
    await superuser.query("SET session_replication_role = replica");
    const columns = await superuser.query<{ table_name: string; column_name: string; data_type: string }>(
      "SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT IN ('_prisma_migrations', 'challenge', 'site_session')",
    );
    t.ok(columns.rowCount && columns.rowCount > 50);
    const changed: Record<string, string> = {
      text: "'tampered'",
      bigint: "987654",
      integer: "987654",
      boolean: "NOT %",
      bytea: "'\\x00'",
      ARRAY: "ARRAY['tampered']",
      "double precision": "0.987",
    };
    for (const { table_name: table, column_name: column, data_type: type } of columns.rows) {
      const { rowCount } = await superuser.query(`SELECT 1 FROM "${table}" LIMIT 1`);
      if (rowCount === 0) continue;
      const before = await superuser.query(`SELECT ctid, * FROM "${table}" ORDER BY ctid LIMIT 1`);
      const value = (changed[type] ?? "NULL").replace("%", `"${column}"`);
      const moved = await superuser.query(
        `UPDATE "${table}" SET "${column}" = ${value} WHERE ctid = $1 RETURNING ctid`,
        [before.rows[0].ctid],
      );
      const { ok, faults } = await verification(federation);
      t.notOk(ok, `${table}.${column} altered: ${faults[0]}`);
      await superuser.query(`UPDATE "${table}" SET "${column}" = $1 WHERE ctid = $2`, [
        before.rows[0][column],
        moved.rows[0].ctid,
      ]);
    }
    t.match(await verification(federation), { ok: true }, "put back, everything is as it was");

    for (const table of [
      "audit_entry",
      "audit_checkpoint",
      "site",
      "study",
      "round_update",
      "model_version",
      "evaluation",
      "plan_approval",
      "round",
      "invitation",
    ]) {
      await superuser.query("BEGIN");
      const { rows } = await superuser.query(
        `DELETE FROM "${table}" WHERE ctid = (SELECT max(ctid) FROM "${table}") RETURNING *`,
      );
      await superuser.query("COMMIT");
      t.notOk((await verification(federation)).ok, `a row of ${table} deleted`);
      const [row] = rows as Record<string, unknown>[]; // One row was deleted.
      const names = Object.keys(row ?? {});
      const places = names.map((_, at) => `$${at + 1}`).join(", ");
      await superuser.query(
        `INSERT INTO "${table}" (${names.map((name) => `"${name}"`).join(", ")}) VALUES (${places})`,
        names.map((name) => row?.[name]),
      );
    }
    await superuser.query(
      "INSERT INTO site (site, status, public_key, invitation, enrolled_at_ms) VALUES ('hospital-x', 'active', 'k', 'i', 0)",
    );
    t.match(await verification(federation), {
      ok: false,
      faults: [/row hospital-x has no entry in the log/],
    });
    await superuser.query("DELETE FROM site WHERE site = 'hospital-x'");
    t.match(await verification(federation), { ok: true });

    await superuser.query(
      "UPDATE audit_entry SET leaf = replace(leaf, 'hospital-b', 'hospital-x') WHERE index = 4",
    );
    await t.rejects(
      federation.restart(),
      { code: "log.damaged" },
      "nothing is built on a log that is not the one that was signed",
    );
  },
);

t.test("two coordinators on one database take turns, and agree", async (t) => {
  const test = await startTestDatabase();
  t.teardown(() => test.close());
  const federation = await startFederation(stores(test));
  t.teardown(() => federation.close());
  const names = Array.from({ length: 12 }, (_, at) => `hospital-${at + 10}`);
  const { startCoordinator } = await import("@consilium/coordinator/coordinator.ts");
  const { createLogger } = await import("@consilium/coordinator/logger.ts");
  const config = {
    dataFolder: federation.folder,
    host: "127.0.0.1",
    port: 0,
    publicUrl: null,
    tls: null,
    logLevel: "silent",
  } as const;
  const second = await startCoordinator(config, {
    ...stores(test),
    clock: { nowMs: () => Date.now() },
    logger: createLogger("silent"),
  });
  t.teardown(() => second.stop());
  const ask = (url: string, site: string): Promise<Response> =>
    fetch(`${url}/v1/invitations`, {
      method: "POST",
      headers: { authorization: `Bearer ${federation.operatorToken}`, "content-type": "application/json" },
      body: JSON.stringify({ site }),
    });
  const invite = async (url: string, site: string): Promise<number> => (await ask(url, site)).status;
  const statuses = await Promise.all(
    names.flatMap((name) => [invite(federation.url, name), invite(second.url, name)]),
  );
  t.equal(statuses.filter((status) => status === 201).length, names.length, "each name is invited once");
  t.equal(statuses.filter((status) => status === 409).length, names.length);
  t.match(await verification(federation), { ok: true, entries: names.length + 1 });

  const { invitation } = (await (await ask(second.url, "hospital-z")).json()) as { invitation: string }; // InvitationAnswer.
  const prefix = "consilium-invitation-v1.";
  const parts = JSON.parse(Buffer.from(invitation.replace(prefix, ""), "base64url").toString()) as object; // As documented.
  const elsewhere = Buffer.from(JSON.stringify({ ...parts, url: federation.url })).toString("base64url");
  const site = await PlainSite.enrol(`${prefix}${elsewhere}`);
  t.equal(site.name, "hospital-z", "what one has promised the other keeps at once");
});

t.test("an entry that nobody signed is not taken over, whoever put it into the table", async (t) => {
  const test = await startTestDatabase();
  t.teardown(() => test.close());
  const federation = await startFederation(stores(test));
  t.teardown(() => federation.close());
  const client = new pg.Client({ connectionString: test.postgres.url });
  await client.connect();
  t.teardown(() => client.end());
  const { rows } = await client.query<{ leaf: string }>('SELECT leaf FROM audit_entry WHERE "index" = 0');
  const forged = (rows[0]?.leaf ?? "").replace('"index":0', '"index":1');
  const hash = createHash("sha256").update(Buffer.of(0)).update(forged).digest();
  await client.query('INSERT INTO audit_entry ("index", kind, leaf, leaf_hash) VALUES (1, $1, $2, $3)', [
    "log.opened",
    forged,
    hash,
  ]);
  const { body } = await federation.operator("GET", "/v1/audit/checkpoint");
  t.equal(String(body["checkpoint"]).split("\n")[1], "1", "the log still has one entry");
  await t.rejects(federation.restart(), { code: "log.damaged" });
});

t.test("migrations are applied once, and one that was changed since is refused", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "consilium-migrate-"));
  const postgres = await startEmbeddedPostgres(folder);
  t.teardown(async () => {
    await postgres.stop();
    rmSync(folder, { recursive: true, force: true });
    if (postgres.place.isFallback) rmSync(postgres.place.folder, { recursive: true, force: true });
  });
  const applied = await Promise.all([migrate(postgres.url), migrate(postgres.url)]);
  t.equal(applied.flat().length, 1, "two at once apply it once");
  t.strictSame(await migrate(postgres.url), []);
  const access = await runtimeAccess(postgres.url);
  t.match(access.url, /consilium_runtime/);
  t.same(await runtimeAccess(postgres.url), access, "every coordinator finds the same login");
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  await client.query("CREATE DATABASE another");
  const another = Object.assign(new URL(postgres.url), { pathname: "/another" }).toString();
  await migrate(another);
  t.not(new URL((await runtimeAccess(another)).url).username, new URL(access.url).username);
  const first = new pg.Client({ connectionString: access.url });
  await first.connect(); // A second federation on the server has not changed the first one's login.
  await first.end();
  await client.query("UPDATE _prisma_migrations SET checksum = 'x'");
  await client.end();
  await t.rejects(migrate(postgres.url), { code: "migration.changed" });
});

t.test("a database that survived its coordinator is taken over, wherever it had to live", async (t) => {
  const parent = mkdtempSync(join(tmpdir(), "consilium-home-"));
  chmodSync(parent, 0o700);
  const folder = join(parent, "data");
  mkdirSync(folder);
  const first = await startEmbeddedPostgres(folder);
  t.teardown(async () => {
    await first.stop();
    rmSync(parent, { recursive: true, force: true });
    if (first.place.isFallback) rmSync(first.place.folder, { recursive: true, force: true });
  });
  const isRoot = process.getuid?.() === 0;
  t.equal(
    first.place.isFallback,
    isRoot,
    "a home of mode 0700 is out of the reach of the database's user, and only root needs one",
  );
  t.equal(statSync(join(folder, "postgres.password")).mode & 0o777, 0o600);
  const second = await startEmbeddedPostgres(folder);
  t.ok(second.adopted);
  t.equal(second.url, first.url);
  const client = new pg.Client({ connectionString: second.url });
  await client.connect();
  const { rows } = await client.query("SHOW listen_addresses");
  t.strictSame(rows, [{ listen_addresses: "127.0.0.1" }]);
  await client.end();
});

t.test("a killed database whose process is still to be seen is waited for", async (t) => {
  const parent = mkdtempSync(join(tmpdir(), "consilium-killed-"));
  chmodSync(parent, 0o755);
  const first = await startEmbeddedPostgres(join(parent, "data"));
  t.teardown(() => {
    rmSync(parent, { recursive: true, force: true });
    if (first.place.isFallback) rmSync(first.place.folder, { recursive: true, force: true });
  });
  const pidFile = join(first.place.folder, "cluster/postmaster.pid");
  const lines = readFileSync(pidFile, "utf8").split("\n");
  process.kill(Number(lines[0]), "SIGKILL");
  // Its user's process under that number, as the killed one is until somebody reaps it.
  const shade = spawn("sleep", ["60"], { ...first.place.owner, stdio: "ignore" });
  writeFileSync(pidFile, [shade.pid, ...lines.slice(1)].join("\n"));
  const second = startEmbeddedPostgres(join(parent, "data"));
  t.teardown(async () => (await second).stop());
  const early = await Promise.race([second, new Promise((resolve) => setTimeout(resolve, 1500, "waiting"))]);
  t.equal(early, "waiting");
  shade.kill();
  t.notOk((await second).adopted, "then it starts, on the same data");
});

t.test(
  "under a strict umask, from a package that nobody else can read, it still starts",
  { skip: process.getuid?.() === 0 ? false : "only root runs the database as another user" },
  async (t) => {
    const parent = mkdtempSync(join(tmpdir(), "consilium-umask-"));
    chmodSync(parent, 0o755);
    const script = join(parent, "start.mjs");
    const module = new URL("../../coordinator/persistence/embedded-postgres.ts", import.meta.url).href;
    writeFileSync(
      script,
      `process.umask(0o077);\nconst { startEmbeddedPostgres } = await import(${JSON.stringify(module)});\nconst server = await startEmbeddedPostgres(${JSON.stringify(join(parent, "data"))});\nconsole.log(server.place.folder);\nawait server.stop();\nprocess.exit(0);\n`,
    );
    const output = execFileSync(process.execPath, ["--import", "tsx", script], {
      encoding: "utf8",
      cwd: new URL("../..", import.meta.url).pathname,
    });
    t.teardown(() => {
      rmSync(parent, { recursive: true, force: true });
      if (output.startsWith("/var/")) rmSync(output.trim(), { recursive: true, force: true });
    });
    t.match(output, /consilium|postgres/);
  },
);

t.test("a site's update is in the log before its acknowledgement is on the wire", async (t) => {
  const test = await startTestDatabase();
  t.teardown(() => test.close());
  const federation = await startFederation(stores(test));
  t.teardown(() => federation.close());
  const [a, b] = [await federation.enrol("hospital-a"), await federation.enrol("hospital-b")];
  await openSmallStudy(federation, [a, b]);
  await submitUpdate(a, 0.001);
  await a.expect("update.settled");
  t.equal(await test.database.roundUpdate.count(), 1);
  t.ok(readFileSync(join(federation.folder, "operator.token"), "utf8").length > 40);
});
