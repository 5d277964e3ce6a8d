// The child process of choose-backend: start one backend, test it, send the report and end. It may be killed by a
// native library at any point; the parent takes silence for an answer.

import { expectDefined } from "@consilium/shared/base/assert.ts";
import { BACKEND_NAMES } from "./backend-report.ts";
import { tryBackend } from "./start-backend.ts";

const name = expectDefined(
  BACKEND_NAMES.find((candidate) => candidate === process.argv[2]),
  "the name of a backend as the first argument",
);
process.send?.(await tryBackend(name));
process.disconnect();
