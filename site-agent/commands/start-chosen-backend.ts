// Chooses and starts the compute backend in this process, and puts what it says of itself into the form in which it is
// recorded with every update.

import { chooseBackend } from "../backend/choose-backend.ts";
import type { StartedBackend } from "../compute/compute.ts";
import type { ComputeWish } from "../config.ts";

/** As many devices as the signed statement takes. */
const devicesMax = 16;

/** @throws BackendError `backend.none-usable` */
export async function startChosenBackend({
  backend: wish,
  products,
  wasmThreads,
}: ComputeWish): Promise<StartedBackend> {
  const requested = wish === "auto" ? {} : { requested: wish };
  const { backend, passedOver } = await chooseBackend({ ...requested, products, wasmThreads });
  const { name, version, devices, isGpu } = backend;
  const statement = {
    name,
    version: oneLine(version),
    devices: devices.slice(0, devicesMax).map(oneLine),
    isGpu,
  };
  return { statement, passedOver };
}

/** Drivers may put anything into a device's name. */
function oneLine(text: string): string {
  return text.replace(/\p{Cc}/gu, " ").slice(0, 200);
}
