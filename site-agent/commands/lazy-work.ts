// The jobs, loaded when the first one is wanted: an agent that waits for weeks should not hold a tensor library in
// memory. Delivering an update needs none.

import type { Work } from "../agent.ts";
import { deliverUpdate } from "../work/deliver-update.ts";
import type { SitePorts } from "../work/site-ports.ts";

export function lazyWork(ports: SitePorts): Work {
  let loaded: Promise<Work> | null = null;
  const work = (): Promise<Work> => {
    loaded ??= import("../work/site-work.ts").then(({ siteWork }) => siteWork(ports));
    return loaded;
  };
  return {
    train: async (offer, control) => (await work()).train(offer, control),
    evaluate: async (offer, control) => (await work()).evaluate(offer, control),
    install: async (release, control) => (await work()).install(release, control),
    deliver: (update, signal) => deliverUpdate(ports, update, signal),
  };
}
