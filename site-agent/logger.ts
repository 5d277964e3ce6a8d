// The agent's log: pino, on standard error, one line an event. Only what has the exact form of an AgentEvent is
// written, so that no name, path, header or voxel can reach a log by way of a careless object.

import { type DestinationStream, pino } from "pino";
import { Value } from "typebox/value";
import type { SiteConfig } from "./config.ts";
import { AgentEvent } from "./events.ts";

export type EventLog = (event: AgentEvent) => void;

export function createLogger(
  level: SiteConfig["logLevel"],
  destination: DestinationStream = pino.destination({ dest: 2, sync: true }),
): EventLog {
  const logger = pino({ name: "consilium-site", level, base: {} }, destination);
  return (event) => {
    const isAllowed = Value.Check(AgentEvent, event);
    if (!isAllowed) logger.error({ event: "event.refused" });
    else if (event.kind === "alarm.raised") logger.fatal(fields(event));
    else if (event.kind === "job.progress") logger.debug(fields(event));
    else if (event.kind.endsWith("failed") || event.kind.endsWith("refused")) logger.warn(fields(event));
    else logger.info(fields(event));
  };
}

function fields({ kind, ...rest }: AgentEvent): Record<string, unknown> {
  return { event: kind, ...rest };
}
