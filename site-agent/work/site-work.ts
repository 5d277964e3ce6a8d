// The jobs of a site behind the agent's port.

import type { Work } from "../agent.ts";
import { deliverUpdate } from "./deliver-update.ts";
import { evaluateVersion } from "./evaluate-version.ts";
import { installVersion } from "./install-version.ts";
import type { SitePorts } from "./site-ports.ts";
import { trainRound } from "./train-round.ts";

export function siteWork(ports: SitePorts): Work {
  return {
    train: (offer, control) => trainRound(ports, offer, control),
    evaluate: (offer, control) => evaluateVersion(ports, offer, control),
    install: (release, control) => installVersion(ports, release, control),
    deliver: (update, signal) => deliverUpdate(ports, update, signal),
  };
}
