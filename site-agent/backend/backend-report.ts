// What is recorded about the machine that trained a model: with every update, and in the agent's own ledger. It names
// hardware and versions, nothing of the hospital.

import { type Static, Type } from "typebox";

/** In the order of preference. */
export const BACKEND_NAMES = ["tfjs-node-gpu", "tfjs-node", "webgpu", "wasm", "cpu"] as const;
export type BackendName = (typeof BACKEND_NAMES)[number];
/** Those that are chosen for a GPU alone: it keeps their tensors, and its time is not the processor's. */
export const GPU_BACKENDS: readonly BackendName[] = ["tfjs-node-gpu", "webgpu"];

/** A bound on what a site may ask for. */
export const WASM_THREADS_MAX = 64;

export const BackendReport = Type.Object(
  {
    name: Type.Enum([...BACKEND_NAMES]),
    /** Of the framework and of what computes behind it. */
    version: Type.String({ maxLength: 200 }),
    devices: Type.Array(Type.String({ maxLength: 200 }), { maxItems: 64 }),
    /** True only when the framework itself lists a GPU. */
    isGpu: Type.Boolean(),
    selfTest: Type.Object({ passed: Type.Boolean(), failures: Type.Array(Type.String(), { maxItems: 64 }) }),
  },
  { additionalProperties: false },
);
export type BackendReport = Static<typeof BackendReport>;

/** Why a backend was passed over. */
export type ProbeFailure = { readonly unusable: string };

/** One line for the log and the status page. It says loudly when no GPU computes. */
export function describeBackend({ name, version, devices, isGpu }: BackendReport): string {
  const where = `${name} ${version} on ${devices.join(", ")}`;
  return isGpu
    ? `Training on the GPU: ${where}.`
    : `NO GPU IS USED. Training runs on the CPU and will be slow: ${where}.`;
}
