// A PostgreSQL server from the npm package, started when no DATABASE_URL is given: listening on loopback only, with a
// password, and with its data under the coordinator's data folder. A server that outlived a killed coordinator is
// taken over; one that is still going away is waited for.

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { EmbeddedPostgresError, findPlace, type PostgresPlace } from "./postgres-place.ts";

const user = "consilium";
const database = "consilium";
const startMsMax = 60_000;
/** How long a server of the same cluster, killed or stopping, may hold its lock. */
const predecessorMsMax = 60_000;
/** What PostgreSQL says while one does: the process is not reaped yet, or its children are still attached. */
const predecessorHolds = /lock file "postmaster\.pid" already exists|pre-existing shared memory block/;
const stopMsMax = 30_000;
const pollMs = 50;
const logTailBytes = 4096;

export type EmbeddedPostgres = {
  /** Connection string of the owner. */
  readonly url: string;
  readonly place: PostgresPlace;
  /** True when the server was already running. */
  readonly adopted: boolean;
  stop(): Promise<void>;
};

/** @throws EmbeddedPostgresError that says what to do */
export async function startEmbeddedPostgres(dataFolder: string): Promise<EmbeddedPostgres> {
  mkdirSync(dataFolder, { recursive: true });
  const place = findPlace(dataFolder);
  const password = readPassword(join(dataFolder, "postgres.password"));
  const cluster = join(place.folder, "cluster");
  if (!existsSync(join(cluster, "PG_VERSION"))) initialise(place, cluster, password);

  const { pid, port, adopted } = await findOrLaunch(place, cluster, password);
  return { url: await ensureDatabase(port, password), place, adopted, stop: () => stop(pid) };
}

async function findOrLaunch(
  place: PostgresPlace,
  cluster: string,
  password: string,
): Promise<{ pid: number; port: number; adopted: boolean }> {
  const deadline = performance.now() + predecessorMsMax;
  for (;;) {
    const running = readPidFile(cluster);
    if (running && (await isReady(urlOf(running.port, password, "postgres"))))
      return { ...running, adopted: true };
    const port = await freePort();
    const server = launch(place, cluster, port);
    if (await becomesReady(server, urlOf(port, password, "postgres")))
      return { pid: server.process.pid ?? 0, port, adopted: false };
    if (!predecessorHolds.test(server.logTail()) || performance.now() > deadline)
      throw new EmbeddedPostgresError("postgres.failed", `PostgreSQL did not start: ${server.logTail()}`);
    await delay(pollMs * 10);
  }
}

/** Made once, kept beside the data folder's other secrets. */
function readPassword(file: string): string {
  if (existsSync(file)) return readFileSync(file, "utf8").trim();
  const password = randomBytes(32).toString("base64url");
  writeFileSync(file, `${password}\n`, { mode: 0o600, flag: "wx" });
  return password;
}

/** Under another name first: an initialisation that was interrupted is begun anew. */
function initialise(place: PostgresPlace, cluster: string, password: string): void {
  const fresh = `${cluster}.new`;
  const passwordFile = join(place.folder, "initial-password");
  rmSync(fresh, { recursive: true, force: true });
  writeFileSync(passwordFile, password, { mode: 0o600 });
  if (place.owner) chownSync(passwordFile, place.owner.uid, place.owner.gid);
  try {
    const options = [
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--locale=C",
      "--data-checksums",
      `--username=${user}`,
    ];
    const result = spawnSync(
      join(place.programs, "bin/initdb"),
      [`--pgdata=${fresh}`, `--pwfile=${passwordFile}`, ...options],
      { ...place.owner, cwd: place.folder, encoding: "utf8", env: environment() },
    );
    if (result.status !== 0) {
      throw new EmbeddedPostgresError(
        "postgres.failed",
        `initdb failed: ${(result.stderr || String(result.error)).slice(-logTailBytes)}`,
      );
    }
    renameSync(fresh, cluster);
  } finally {
    rmSync(passwordFile, { force: true });
  }
}

type Server = { readonly process: ChildProcess; logTail(): string };

function launch(place: PostgresPlace, cluster: string, port: number): Server {
  const settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "logging_collector=off"];
  const child = spawn(
    join(place.programs, "bin/postgres"),
    ["-D", cluster, "-p", String(port), ...settings.flatMap((setting) => ["-c", setting])],
    // A group of its own: Ctrl-C at a terminal stops the coordinator, which then stops its database.
    {
      ...place.owner,
      cwd: place.folder,
      detached: true,
      stdio: ["ignore", "ignore", "pipe"],
      env: environment(),
    },
  );
  let tail = "";
  child.stderr?.on("data", (chunk: Buffer) => {
    tail = (tail + chunk.toString()).slice(-logTailBytes);
  });
  child.unref();
  (child.stderr as unknown as { unref(): void }).unref(); // A pipe is a socket; its stream type does not say so.
  return { process: child, logTail: () => tail };
}

async function becomesReady(server: Server, url: string): Promise<boolean> {
  for (let waitedMs = 0; waitedMs < startMsMax; waitedMs += pollMs) {
    if (server.process.exitCode !== null || server.process.pid === undefined) return false;
    if (await isReady(url)) return true;
    await delay(pollMs);
  }
  return false;
}

async function isReady(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, connectionTimeoutMillis: 2000 });
  client.on("error", () => {}); // A server that goes away while it is asked is not ready.
  try {
    await client.connect();
    await client.end();
    return true;
  } catch {
    return false;
  }
}

async function ensureDatabase(port: number, password: string): Promise<string> {
  const client = new pg.Client({ connectionString: urlOf(port, password, "postgres") });
  await client.connect();
  try {
    const { rowCount } = await client.query("SELECT 1 FROM pg_database WHERE datname = $1", [database]);
    if (rowCount === 0) await client.query(`CREATE DATABASE ${database}`);
  } finally {
    await client.end();
  }
  return urlOf(port, password, database);
}

function urlOf(port: number, password: string, name: string): string {
  return `postgresql://${user}:${password}@127.0.0.1:${port}/${name}`;
}

/** The first line of postmaster.pid is the process, the fourth its port. */
function readPidFile(cluster: string): { pid: number; port: number } | null {
  const file = join(cluster, "postmaster.pid");
  if (!existsSync(file)) return null;
  const lines = readFileSync(file, "utf8").split("\n");
  const [pid, port] = [Number(lines[0]), Number(lines[3])];
  return pid > 0 && port > 0 && isAlive(pid) ? { pid, port } : null;
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Fast shutdown: open transactions are rolled back, nothing committed is lost. */
async function stop(pid: number): Promise<void> {
  if (pid <= 0 || !isAlive(pid)) return;
  process.kill(pid, "SIGINT");
  for (let waitedMs = 0; waitedMs < stopMsMax && isAlive(pid); waitedMs += pollMs) await delay(pollMs);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening, failed) => {
    server.once("error", failed);
    server.listen(0, "127.0.0.1", listening);
  });
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  if (address === null || typeof address === "string") {
    throw new EmbeddedPostgresError("postgres.failed", "no free port on loopback");
  }
  return address.port;
}

/** Nothing of the coordinator's environment, secrets above all, is handed on. */
function environment(): NodeJS.ProcessEnv {
  const { PATH, TZ } = process.env;
  return { PATH, TZ, LC_ALL: "C", LANG: "C" };
}
