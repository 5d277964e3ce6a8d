// The child process of choose-backend: start one backend, test it, send the report and end. It may be killed by a
// native library at any point; the parent takes silence for an answer.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { BACKEND_NAMES } from "./backend-report.ts";
import { startBackend } from "./start-backend.ts";

const name = expectDefined(
  BACKEND_NAMES.find((candidate) => candidate === process.argv[2]),
  "the name of a backend as the first argument",
);
try {
  process.send?.(await startBackend(name));
} catch (error) {
  process.send?.({ unusable: reasonOf(error) });
}
process.disconnect();

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return "it could not be started";
  if ("code" in error && error.code === "ERR_MODULE_NOT_FOUND") return "its package is not installed";
  return error.message.split("\n")[0]?.trim() ?? "it could not be started";
}
