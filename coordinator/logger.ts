// The coordinator's log. Requests appear as method, route and status: no path, no header, no body, so that nothing a
// site says of its data can reach it.

import { type Logger, pino } from "pino";
import type { CoordinatorConfig } from "./config.ts";

export type { Logger } from "pino";

export function createLogger(level: CoordinatorConfig["logLevel"]): Logger {
  return pino(
    { name: "consilium-coordinator", level, base: {}, serializers: { err: errorFields } },
    pino.destination(2),
  );
}

/** Name, code, message and stack of our own code; never the properties that libraries attach. */
function errorFields(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { type: typeof error };
  const { code } = error as { code?: unknown }; // Looked at only if it is text.
  const cause = error.cause === undefined ? {} : { cause: errorFields(error.cause) };
  return {
    name: error.name,
    message: error.message,
    stack: error.stack,
    ...(typeof code === "string" ? { code } : {}),
    ...cause,
  };
}
