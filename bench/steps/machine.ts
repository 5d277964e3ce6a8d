// What benches say of where they ran, and on which backend they are to.

import { cpus } from "node:os";
import { expectDefined } from "@consilium/shared/base/assert.ts";
import { BACKEND_NAMES, type BackendName } from "../../site-agent/backend/backend-report.ts";

export function machine(): object {
  const [processor] = cpus();
  return { processor: processor?.model, processors: cpus().length, node: process.version };
}

/** @throws where there is no such backend */
export function backendNamed(text: string): BackendName {
  return expectDefined(
    BACKEND_NAMES.find((name) => name === text),
    `--backend: one of ${BACKEND_NAMES.join(", ")}`,
  );
}
