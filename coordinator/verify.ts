// `npm run verify -- BUNDLE --keys FILE [--witness FILE]`: the offline verifier as a program of its own. It loads no
// network client and no database.

import { parseArgs } from "node:util";
import { verifyBundle } from "./commands/audit-commands.ts";
import { exitCodes } from "./exit-codes.ts";

const usage =
  "usage: npm run verify -- BUNDLE --keys FILE [--witness FILE] [--json]\n  --keys     public keys of the coordinators that you trust, one a line\n  --witness  a checkpoint that a site has kept (in its journal; docs/OPERATIONS.md says how to take it out)";

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      keys: { type: "string" },
      witness: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  const [bundle] = positionals;
  if (!bundle || !values.keys) throw new TypeError(usage);
  const options = { keys: values.keys, ...(values.witness ? { witness: values.witness } : {}) };
  const exit = await verifyBundle(bundle, options, { print: (line) => console.log(line), json: values.json });
  return exitCodes[exit].code;
}

process.exitCode = await main().catch((error: unknown) => {
  console.error((error as Error).message);
  return exitCodes.usage.code;
});
