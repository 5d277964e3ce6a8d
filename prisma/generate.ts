// Generates the typed database client from schema.prisma, without network: the Prisma command asks for its native
// schema engine even where it does not use it, so any existing file stands in for it. Called after installation, and
// by the coordinator where installation scripts were skipped.

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
export const generatedClient = join(here, "../coordinator/persistence/generated/client.ts");

function isGeneratorInstalled(): boolean {
  try {
    createRequire(import.meta.url).resolve("prisma/package.json");
    return true;
  } catch {
    return false;
  }
}

/** @throws Error with the command's own words when it fails. */
export function generateClient(): void {
  const manifest = createRequire(import.meta.url).resolve("prisma/package.json");
  const command = join(dirname(manifest), "build/index.js");
  const { PRISMA_SCHEMA_ENGINE_BINARY = process.execPath, ...environment } = process.env;
  const result = spawnSync(
    process.execPath,
    [command, "generate", "--config", join(here, "prisma.config.ts")],
    {
      env: { ...environment, PRISMA_SCHEMA_ENGINE_BINARY, CHECKPOINT_DISABLE: "1" },
      encoding: "utf8",
      timeout: 120_000,
    },
  );
  if (result.status !== 0 || !existsSync(generatedClient)) {
    throw new Error(`the database client could not be generated: ${result.stderr || result.stdout}`);
  }
}

// As an installation script: an installation for production leaves the generator out, and brings the client along.
if (process.argv[1] === fileURLToPath(import.meta.url) && isGeneratorInstalled()) generateClient();
