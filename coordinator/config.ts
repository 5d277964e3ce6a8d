// The coordinator's configuration, read once from the environment and the command line. What must agree between sites
// is not configuration: it travels in the signed plan.

import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { join, resolve } from "node:path";
import { type Entries, EnvironmentReader } from "@consilium/shared/base/environment.ts";

export type CoordinatorConfig = {
  readonly dataFolder: string;
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** How sites reach this coordinator; null derives it from host and port. */
  readonly publicUrl: string | null;
  readonly tls: { readonly certificate: string; readonly key: string } | null;
  readonly logLevel: "silent" | "error" | "warn" | "info" | "debug";
};

/** Kept apart so that it is never printed with the rest. */
export type CoordinatorSecrets = {
  /** Connection string of the database's owner; null starts the embedded server. */
  readonly databaseUrl: string | null;
};

export type Settings = { readonly config: CoordinatorConfig; readonly secrets: CoordinatorSecrets };

/**
 * @param entries environment entries; options of the command line are put over them under the same names
 * @throws EnvironmentError naming every fault
 */
export function readSettings(entries: Entries): Settings {
  const read = new EnvironmentReader(entries);
  const host = read.text("CONSILIUM_HOST", "127.0.0.1");
  const tls = readTls(read);
  if (!tls && !isLoopback(host)) {
    read.fault(
      "CONSILIUM_HOST is not loopback: set CONSILIUM_TLS_CERT and CONSILIUM_TLS_KEY, or stay on 127.0.0.1",
    );
  }
  const databaseUrl = read.optional("DATABASE_URL");
  if (databaseUrl && !/^postgres(ql)?:\/\//.test(databaseUrl))
    read.fault("DATABASE_URL must begin with postgresql://");
  const publicUrl = read.optional("CONSILIUM_PUBLIC_URL");
  if (publicUrl && !URL.canParse(publicUrl)) read.fault("CONSILIUM_PUBLIC_URL must be a URL");
  const config: CoordinatorConfig = {
    dataFolder: resolve(read.text("CONSILIUM_DATA", "data")),
    host,
    port: read.integer("CONSILIUM_PORT", 7300, { min: 0, max: 65_535 }),
    publicUrl,
    tls,
    logLevel: read.oneOf("CONSILIUM_LOG", "info", ["silent", "error", "warn", "info", "debug"]),
  };
  read.finish();
  return { config, secrets: { databaseUrl } };
}

function readTls(read: EnvironmentReader): CoordinatorConfig["tls"] {
  const [certificate, key] = [read.optional("CONSILIUM_TLS_CERT"), read.optional("CONSILIUM_TLS_KEY")];
  if (!certificate && !key) return null;
  try {
    return { certificate: readFileSync(certificate ?? "", "utf8"), key: readFileSync(key ?? "", "utf8") };
  } catch {
    read.fault("CONSILIUM_TLS_CERT and CONSILIUM_TLS_KEY must both name readable PEM files");
    return null;
  }
}

export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

/** Where the parts of the data folder are. */
export function folders(dataFolder: string) {
  return {
    artifacts: join(dataFolder, "blobs"),
    uploads: join(dataFolder, "uploads"),
    signingKey: join(dataFolder, "coordinator.key.pem"),
    operatorToken: join(dataFolder, "operator.token"),
    address: join(dataFolder, "coordinator.url"),
  };
}
