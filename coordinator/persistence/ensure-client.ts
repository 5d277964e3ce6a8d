// The typed database client is generated at installation. Where installation scripts were skipped it is generated now.

import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { generateClient } from "../../prisma/generate.ts";

const generated = join(dirname(fileURLToPath(import.meta.url)), "generated/client.ts");

export function ensureClient(): void {
  if (!existsSync(generated)) generateClient();
}
