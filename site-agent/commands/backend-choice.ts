// The compute backend as commands see it: started once, described in one line, loudly when it is not a GPU.

import type { StartedBackend } from "../compute/compute.ts";

/** @throws BackendError when the wanted backend is not there or computes wrongly */
export type BackendStarter = () => Promise<StartedBackend>;

/** Start at the first call; every later call gets the same. */
export function startedOnce(start: BackendStarter): BackendStarter {
  let started: Promise<StartedBackend> | null = null;
  return () => {
    started ??= start();
    return started;
  };
}

export function backendLines({ statement, passedOver }: StartedBackend): string[] {
  const { name, version, devices, isGpu } = statement;
  const where = devices.length > 0 ? ` on ${devices.join(", ")}` : "";
  return [
    `Backend   ${name} ${version}${where}`,
    ...(isGpu ? [] : ["          THIS IS NOT A GPU: training will be many times slower."]),
    ...passedOver.map((one) => `  not usable here: ${one.name}: ${one.reason}`),
  ];
}
